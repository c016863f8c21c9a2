package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/util/gitutil"
)

// gitRemote is the address of a repository.
type gitRemote struct {
	// url is what git is given. Over HTTP it has no credentials: those are
	// user and password.
	url            string
	user, password string
	scheme, host   string
	// shown is for people.
	shown string
}

// parseGitRemote reads an address as the reference does: a URL, host:path of
// ssh, or a host and a path, which are meant over HTTPS.
func parseGitRemote(address string) (gitRemote, error) {
	if !gitutil.IsGitTransport(address) && !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := gitutil.ParseURL(address)
	if err != nil || u.Host == "" || strings.HasPrefix(u.Host, "-") {
		return gitRemote{}, &RemoteError{
			Msg:  fmt.Sprintf("%q is no address of a git repository", WithoutUser(address)),
			Hint: "write https://HOST/PATH.git, ssh://USER@HOST/PATH.git or USER@HOST:PATH.git", Err: err,
		}
	}
	r := gitRemote{url: u.Remote, scheme: strings.ToLower(u.Scheme), host: u.Host, shown: u.Remote}
	if u.User == nil || !strings.Contains(u.Remote, "://") {
		return r, nil
	}
	clean, err := url.Parse(u.Remote)
	if err != nil {
		return gitRemote{}, fmt.Errorf("address of a git repository: %w", err)
	}
	r.user = u.User.Username()
	r.password, _ = u.User.Password()
	if clean.User = nil; !r.overHTTP() {
		clean.User = url.User(r.user)
	}
	r.url = clean.String()
	r.shown = r.url
	return r, nil
}

func (r *gitRemote) overHTTP() bool { return r.scheme == "http" || r.scheme == "https" }

// WithoutUser removes credentials from an address.
func WithoutUser(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return scheme + "://" + rest[strings.LastIndex(rest[:end], "@")+1:]
}

// The environment variables of the credential helper.
const (
	gitUserVariable     = "SINTER_GIT_USER"
	gitPasswordVariable = "SINTER_GIT_PASSWORD"
)

// credentialHelper is a shell command: git runs it when a server asks.
const credentialHelper = `!f() { test "$1" != get || printf 'username=%s\npassword=%s\n' "$` + gitUserVariable + `" "$` + gitPasswordVariable + `"; }; f`

// program prepares git for the source. stop frees what it holds.
func (r *Remotes) program(ctx context.Context, s gitSource, lock *os.File) (g *gitProgram, stop func(), err error) {
	g, err = newGitProgram(lock)
	if err != nil {
		return nil, nil, err
	}
	if s.remote.overHTTP() {
		err := r.addHTTPAuth(ctx, g, s)
		return g, func() {}, err
	}
	if s.remote.scheme != "ssh" {
		return g, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "sinter-ssh-")
	if err != nil {
		return nil, nil, err
	}
	stopAgent := func() {}
	stop = func() {
		stopAgent()
		// It holds names of hosts and a dead socket: no harm if it stays.
		_ = os.RemoveAll(dir)
	}
	if s.agent != "" {
		if stopAgent, err = r.addAgent(ctx, g, s.agent, filepath.Join(dir, "agent")); err != nil {
			stopAgent = func() {}
			stop()
			return nil, nil, err
		}
	}
	command, err := sshCommand(dir, s.knownHosts)
	if err != nil {
		stop()
		return nil, nil, err
	}
	g.env = append(g.env, "GIT_SSH_COMMAND="+command)
	return g, stop, nil
}

// addHTTPAuth hands credentials to git where other users of the machine cannot
// see them: in its environment.
func (r *Remotes) addHTTPAuth(ctx context.Context, g *gitProgram, s gitSource) error {
	var config [][2]string
	header, err := r.gitHeader(s)
	if err != nil {
		return err
	}
	if header != "" {
		config = append(config, [2]string{"http." + tokenScope(s.remote.url) + ".extraheader", "Authorization: " + header})
		g.hide = append(g.hide, header)
	}
	if s.remote.user != "" || s.remote.password != "" {
		config = append(config, [2]string{"credential." + s.remote.scheme + "://" + s.remote.host + ".helper", credentialHelper})
		g.env = append(g.env, gitUserVariable+"="+s.remote.user, gitPasswordVariable+"="+s.remote.password)
		g.hide = append(g.hide, s.remote.user, s.remote.password)
	}
	if len(config) == 0 {
		return nil
	}
	if err := g.checkVersion(ctx); err != nil {
		return err
	}
	g.env = append(g.env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)))
	for i, c := range config {
		g.env = append(g.env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, c[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, c[1]))
	}
	return nil
}

// gitHeader is the Authorization header that secrets give: those for the host
// come first.
func (r *Remotes) gitHeader(s gitSource) (string, error) {
	for _, suffix := range []string{"." + s.remote.host, ""} {
		if s.headerSecret != "" {
			if v, ok, err := r.secret(s.headerSecret + suffix); ok || err != nil {
				return v, err
			}
		}
		if s.tokenSecret != "" {
			v, ok, err := r.secret(s.tokenSecret + suffix)
			if err != nil {
				return "", err
			}
			if ok {
				return "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+v)), nil
			}
		}
	}
	return "", nil
}

// tokenScope is where a token is sent. On GitHub it serves other repositories
// (submodules) too, as GitHub's own checkout action does it.
func tokenScope(remote string) string {
	for _, prefix := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, prefix) {
			return prefix
		}
	}
	return remote
}

func (r *Remotes) addAgent(ctx context.Context, g *gitProgram, id, path string) (stop func(), err error) {
	err = fs.ErrNotExist
	if r.SSH != nil {
		stop, err = r.SSH(ctx, id, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &RemoteError{Msg: fmt.Sprintf("no ssh agent or key was given for id %q", id), Hint: "give one with --ssh " + id}
	}
	if err != nil {
		return nil, fmt.Errorf("serving the ssh agent %s: %w", id, err)
	}
	g.env = append(g.env, "SSH_AUTH_SOCK="+path)
	return stop, nil
}

// sshCommand is how git calls ssh: without the user's configuration and never
// asking anybody.
func sshCommand(dir, knownHosts string) (string, error) {
	command := "ssh -F " + os.DevNull + " -o BatchMode=yes"
	if knownHosts == "" {
		return command + " -o StrictHostKeyChecking=no -o UserKnownHostsFile=" + os.DevNull, nil
	}
	file := filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(file, []byte(knownHosts), 0o600); err != nil {
		return "", err
	}
	return command + " -o 'UserKnownHostsFile=\"" + strings.ReplaceAll(file, "'", `'\''`) + "\"'", nil
}
