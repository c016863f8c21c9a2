package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gitProgram is the machine's git. It sees nothing of the user's configuration,
// asks nobody, runs no hooks, and speaks to the network only.
type gitProgram struct {
	path string
	// env is the whole environment.
	env []string
	// hide are texts that must not be seen in messages.
	hide []string
	// lock is held by every process that git starts, too; so a git whose
	// sinter was killed keeps others out until it ends.
	lock *os.File
}

// gitConfig makes git do neither more nor less than it is told to.
var gitConfig = []string{
	"-c", "core.hooksPath=" + os.DevNull,
	"-c", "core.fsmonitor=false",
	"-c", "init.defaultBranch=master",
	"-c", "gc.auto=0",
	"-c", "maintenance.auto=false",
	"-c", "advice.detachedHead=false",
}

func newGitProgram(lock *os.File) (*gitProgram, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, &RemoteError{Msg: "git is not installed", Hint: "git sources need the program git: install it, or give a clone as a directory", Err: err}
	}
	g := &gitProgram{path: path, lock: lock, env: []string{
		"PATH=" + os.Getenv("PATH"),
		"LC_ALL=C", // messages are read below
		"HOME=" + os.DevNull,
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_TERMINAL_PROMPT=0",
		"GIT_ADVICE=0",
	}}
	for _, name := range []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
		"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "TMPDIR",
	} {
		if v, ok := os.LookupEnv(name); ok {
			g.env = append(g.env, name+"="+v)
		}
	}
	return g, nil
}

// gitError is what git said when it failed.
type gitError struct {
	stderr string
	err    error
}

func (e *gitError) Error() string {
	var lines []string
	for line := range strings.Lines(e.stderr) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return "git: " + e.err.Error()
	}
	const shown = 8
	return strings.Join(lines[max(0, len(lines)-shown):], "\n")
}

func (e *gitError) Unwrap() error { return e.err }

// says reports whether err is of a git that said one of the texts.
func says(err error, texts ...string) bool {
	var e *gitError
	if !errors.As(err, &e) {
		return false
	}
	for _, t := range texts {
		if strings.Contains(e.stderr, t) {
			return true
		}
	}
	return false
}

// The protocols that git may speak: those of addresses, or that of the
// repository on disk.
const (
	networkProtocols = "http:https:ssh:git"
	fileProtocol     = "file"
)

// gitCall is one run of git.
type gitCall struct {
	// gitDir and tree may be ""; git then works without a repository.
	gitDir, tree string
	// protocols defaults to networkProtocols.
	protocols string
	args      []string
}

// run returns what git wrote to standard output.
func (g *gitProgram) run(ctx context.Context, c gitCall) (string, error) {
	args := append([]string{}, gitConfig...)
	if c.gitDir != "" {
		args = append(args, "--git-dir", c.gitDir)
	}
	if c.tree != "" {
		args = append(args, "--work-tree", c.tree)
	}
	if c.protocols == "" {
		c.protocols = networkProtocols
	}
	cmd := exec.CommandContext(ctx, g.path, append(args, c.args...)...)
	cmd.Dir = c.tree
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = append(g.env[:len(g.env):len(g.env)], "GIT_ALLOW_PROTOCOL="+c.protocols)
	if g.lock != nil {
		cmd.ExtraFiles = []*os.File{g.lock}
	}
	stdout, stderr := capped{left: maxGitOutput}, capped{left: maxGitMessages, drop: true}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := runInGroup(cmd)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", &gitError{stderr: g.redact(stderr.String()), err: err}
	}
	return stdout.String(), nil
}

// What git writes comes from servers: lists of refs and commits, and what servers
// have to say. These are the most bytes that are kept of them.
const (
	maxGitOutput   = 64 << 20
	maxGitMessages = 1 << 20
)

// capped is a buffer of limited length: more is an error, or dropped.
type capped struct {
	bytes.Buffer
	left int
	drop bool
}

func (c *capped) Write(p []byte) (int, error) {
	kept := p[:min(len(p), c.left)]
	if len(kept) < len(p) && !c.drop {
		return 0, fmt.Errorf("git says more than %d bytes", maxGitOutput)
	}
	c.left -= len(kept)
	c.Buffer.Write(kept)
	return len(p), nil
}

// runInGroup runs a command as a process group of its own, with which all that
// it starts ends, and with a umask of 022.
func runInGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	done := make(chan error)
	go func() {
		// The thread is given up with the goroutine: its umask is its own
		// now. It must last until the process ends, whose parent it is.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			unix.Umask(0o022)
			err = cmd.Start()
		}
		if err == nil {
			err = cmd.Wait()
			// Helpers may outlive git; there are none in the good case.
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		}
		done <- err
	}()
	return <-done
}

var credentialsInURL = regexp.MustCompile(`://[^/@\s']+@`)

// redact removes credentials from what git said.
func (g *gitProgram) redact(s string) string {
	for _, secret := range g.hide {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "xxxxx")
		}
	}
	return credentialsInURL.ReplaceAllString(s, "://xxxxx@")
}

var versionNumber = regexp.MustCompile(`(\d+)\.(\d+)`)

// checkVersion fails for a git that does not take configuration from its
// environment, where credentials are.
func (g *gitProgram) checkVersion(ctx context.Context) error {
	out, err := g.run(ctx, gitCall{args: []string{"version"}})
	if err != nil {
		return fmt.Errorf("asking git for its version: %w", err)
	}
	m := versionNumber.FindStringSubmatch(out)
	if m == nil {
		return nil
	}
	major, err1 := strconv.Atoi(m[1])
	minor, err2 := strconv.Atoi(m[2])
	if err1 == nil && err2 == nil && (major < 2 || major == 2 && minor < 31) {
		return &RemoteError{
			Msg:  fmt.Sprintf("git %s is too old to be given credentials safely", m[0]),
			Hint: "install git 2.31 or newer",
		}
	}
	return nil
}

// explainGit says what to do about a git that failed with a remote.
func explainGit(what string, s gitSource, err error) error {
	var failed *gitError
	if !errors.As(err, &failed) {
		return err
	}
	e := &RemoteError{Msg: what, Err: err}
	switch {
	case says(err, "could not read Username", "could not read Password", "Authentication failed", "requested URL returned error: 403"):
		e.Hint = "for a private repository give a token: --secret id=GIT_AUTH_TOKEN,env=VARIABLE (or src=FILE)"
	case says(err, "Permission denied (publickey"):
		e.Hint = "give an agent that has the key, or the key itself: --ssh default, --ssh default=FILE"
	case says(err, "Host key verification failed"):
		e.Hint = fmt.Sprintf("%s showed a key that was not expected: check the host", s.remote.host)
	case says(err, "Could not resolve host", "Failed to connect", "Could not connect", "Connection refused", "Connection timed out", "unable to connect"):
		e.Hint = fmt.Sprintf("check that %s is up, the network and the variables HTTP_PROXY, HTTPS_PROXY, NO_PROXY", s.remote.host)
	case says(err, "not found", "does not appear to be a git repository", "does not exist"):
		e.Hint = "check the address of the repository"
	}
	return e
}
