package git

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// program is the machine's git. It sees nothing of the user's configuration
// and keys, asks nobody, runs no hooks, and speaks to the network only.
//
// BuildKit's runner (util/gitutil.GitCLI) does not fit these rules: it believes any host
// key, takes relative directories of PATH, cannot hand over credentials, keeps all that
// git writes, however much that is, and repeats failed commands with other arguments by
// itself. Its exec function could replace all this, but then hardly anything of it would
// be left.
type program struct {
	path string
	// remote is the address of the source's repository: the one asked for, or
	// where that redirects to.
	remote string
	// env is the whole environment, but for config.
	env []string
	// config has credentials. Unlike options, other users cannot see it.
	config []setting
	// authorization is the header that secrets give for remote, or "".
	authorization string
	// follow finds out where an address redirects to.
	follow func(ctx context.Context, address, authorization string) (string, error)
	// hide are texts that must not be seen in messages.
	hide []string
	// lock is held by every process that git starts, too; so a git whose
	// sinter was killed keeps others out until it ends.
	lock *os.File
}

// setting is a name and a value of git's configuration.
type setting [2]string

// baseConfig makes git do neither more nor less than it is told to.
var baseConfig = []string{
	"-c", "core.hooksPath=" + os.DevNull,
	"-c", "core.fsmonitor=false",
	"-c", "http.emptyAuth=false", // else a server can ask for the user's Kerberos ticket
	"-c", "init.defaultBranch=master",
	"-c", "gc.auto=0",
	"-c", "maintenance.auto=false",
	"-c", "advice.detachedHead=false",
}

func newProgram(lock *os.File, home string) (*program, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, hint.Add(fmt.Errorf("git is not installed: %w", err), "git sources need the program git: install it, or give a clone as a directory")
	}
	g := &program{path: path, lock: lock, env: []string{
		"PATH=" + absolute(os.Getenv("PATH")),
		"LC_ALL=C", // messages are read below
		"HOME=" + os.DevNull,
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		// Over HTTP too: submodules may have addresses of ssh.
		"GIT_SSH_COMMAND=" + sshCommand("", home, false),
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

// absolute leaves out the relative directories of a PATH: git works in a directory
// with a repository's files, and would start programs of theirs.
func absolute(path string) string {
	dirs := filepath.SplitList(path)
	return strings.Join(slices.DeleteFunc(dirs, func(d string) bool { return !filepath.IsAbs(d) }), string(filepath.ListSeparator))
}

// failure is what git said when it failed.
type failure struct {
	stderr string
	err    error
}

func (e *failure) Error() string {
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

func (e *failure) Unwrap() error { return e.err }

// says reports whether err is of a git that said one of the texts.
func says(err error, texts ...string) bool {
	var e *failure
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

// call is one run of git.
type call struct {
	// gitDir and tree may be ""; git then works without a repository.
	gitDir, tree string
	// protocols defaults to networkProtocols.
	protocols string
	// most is how many bytes of output are taken; it defaults to
	// maxOutput.
	most int
	args []string
}

// run returns what git wrote to standard output.
func (g *program) run(ctx context.Context, c call) (string, error) {
	args := append([]string{}, baseConfig...)
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
	cmd.Env = g.environment(c.protocols)
	if g.lock != nil {
		cmd.ExtraFiles = []*os.File{g.lock}
	}
	stdout, stderr := capped{left: cmp.Or(c.most, maxOutput)}, capped{left: maxMessages, drop: true}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := runInGroup(cmd)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", &failure{stderr: g.redact(stderr.String()), err: err}
	}
	return stdout.String(), nil
}

func (g *program) environment(protocols string) []string {
	env := append(g.env[:len(g.env):len(g.env)], "GIT_ALLOW_PROTOCOL="+protocols)
	config := g.config
	if g.authorization != "" {
		scope := "http." + tokenScope(g.remote)
		config = append(config[:len(config):len(config)],
			setting{scope + ".extraheader", "Authorization: " + g.authorization},
			// git would take the header along to any host.
			setting{scope + ".followRedirects", "false"})
	}
	if len(config) == 0 {
		return env
	}
	env = append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)))
	for i, c := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, c[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, c[1]))
	}
	return env
}

// ask runs git with the address of the repository. Where a header goes along,
// redirects are followed here rather than by git.
func (g *program) ask(ctx context.Context, gitDir string, args func(remote string) []string) (string, error) {
	out, err := g.run(ctx, call{gitDir: gitDir, args: args(g.remote)})
	if g.authorization == "" || !redirects(err) {
		return out, err
	}
	if g.remote, err = g.follow(ctx, g.remote, g.authorization); err != nil {
		return "", err
	}
	return g.run(ctx, call{gitDir: gitDir, args: args(g.remote)})
}

// redirects reports whether git was sent to another address and did not go.
func redirects(err error) bool {
	return says(err, "returned error: 301", "returned error: 302", "returned error: 303", "returned error: 307", "returned error: 308")
}

// What git writes comes from servers: lists of refs and commits, and what servers
// have to say. These are the most bytes that are kept of them.
const (
	maxOutput   = 64 << 20
	maxMessages = 1 << 20
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
		return 0, fmt.Errorf("git says more than %d bytes", c.Len()+c.left)
	}
	c.left -= len(kept)
	c.Buffer.Write(kept)
	return len(p), nil
}

// runInGroup runs a command as a session and process group of its own, with
// which all that it starts ends, and with a umask of 022. Without a terminal
// nothing in it can ask the user.
func runInGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
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

// redact removes credentials from what git said.
func (g *program) redact(s string) string {
	for _, secret := range g.hide {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "xxxxx")
		}
	}
	return parser.Redact(s)
}

var versionNumber = regexp.MustCompile(`(\d+)\.(\d+)`)

// checkVersion fails for a git that does not take configuration from its
// environment, where credentials are.
func (g *program) checkVersion(ctx context.Context) error {
	out, err := g.run(ctx, call{args: []string{"version"}})
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
		return hint.Add(fmt.Errorf("git %s is too old to be given credentials safely", m[0]),
			"install git 2.31 or newer")
	}
	return nil
}
