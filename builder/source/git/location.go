package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/util/gitutil"

	"github.com/sinter-build/sinter/builder/redirect"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/hint"
)

// location is the address of a repository.
type location struct {
	// url is what git is given. Over HTTP it has no credentials: those are
	// user and password.
	url            string
	user, password string
	scheme, host   string
	// shown is for people.
	shown string
}

// parseLocation reads an address as BuildKit does: a URL, host:path of
// ssh, or a host and a path, which are meant over HTTPS.
func parseLocation(address string) (location, error) {
	if !gitutil.IsGitTransport(address) && !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := gitutil.ParseURL(address)
	if err == nil && (u.Host == "" || strings.HasPrefix(u.Host, "-")) {
		err = errors.New("it has no host")
	}
	if err != nil {
		return location{}, hint.Add(fmt.Errorf("%q is not the address of a git repository: %w", remote.WithoutUser(address), err),
			"write https://HOST/PATH.git, ssh://USER@HOST/PATH.git or USER@HOST:PATH.git")
	}
	r := location{url: u.Remote, scheme: strings.ToLower(u.Scheme), host: u.Host, shown: u.Remote}
	if u.User == nil || !strings.Contains(u.Remote, "://") {
		return r, nil
	}
	clean, err := url.Parse(u.Remote)
	if err != nil {
		return location{}, fmt.Errorf("address of a git repository: %w", err)
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

func (r *location) overHTTP() bool { return r.scheme == "http" || r.scheme == "https" }

// The environment variables of the credential helper.
const (
	userVariable     = "SINTER_GIT_USER"
	passwordVariable = "SINTER_GIT_PASSWORD"
)

// credentialHelper is a shell command: git runs it when a server asks.
const credentialHelper = `!f() { test "$1" != get || printf 'username=%s\npassword=%s\n' "$` + userVariable + `" "$` + passwordVariable + `"; }; f`

// program prepares git for the source. stop frees what it holds.
func (f *Fetcher) program(ctx context.Context, q request, lock *os.File) (g *program, stop func(), err error) {
	g, err = newProgram(lock, f.Home)
	if err != nil {
		return nil, nil, err
	}
	g.remote, g.follow = q.remote.url, f.follow
	if q.remote.overHTTP() {
		err := f.addHTTPAuth(ctx, g, q)
		return g, func() {}, err
	}
	if q.remote.scheme != "ssh" {
		return g, func() {}, nil
	}
	stop, err = f.addSSH(ctx, g, q)
	return g, stop, err
}

// addSSH gives git the keys of hosts and the agent that were given for the
// source. The function that it returns frees what they hold.
func (f *Fetcher) addSSH(ctx context.Context, g *program, q request) (_ func(), err error) {
	dir, err := os.MkdirTemp("", "sinter-ssh-")
	if err != nil {
		return nil, err
	}
	stopAgent := func() {}
	stop := func() {
		stopAgent()
		// It holds names of hosts and a dead socket: no harm if it stays.
		_ = os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	var known string
	if q.knownHosts != "" {
		known = filepath.Join(dir, "known_hosts")
		if err := os.WriteFile(known, []byte(q.knownHosts), 0o600); err != nil {
			return nil, err
		}
	}
	if q.agent != "" {
		end, err := f.addAgent(ctx, g, q.agent, filepath.Join(dir, "agent"))
		if err != nil {
			return nil, err
		}
		stopAgent = end
	}
	g.env = append(g.env, "GIT_SSH_COMMAND="+sshCommand(known, f.Home, q.agent != ""))
	return stop, nil
}

// addHTTPAuth hands credentials to git where other users of the machine cannot
// see them: in its environment.
func (f *Fetcher) addHTTPAuth(ctx context.Context, g *program, q request) error {
	header, err := f.header(q)
	if err != nil {
		return err
	}
	if header != "" {
		g.authorization = header
		g.hide = append(g.hide, header)
	}
	if q.remote.user != "" || q.remote.password != "" {
		g.config = append(g.config, setting{"credential." + q.remote.scheme + "://" + q.remote.host + ".helper", credentialHelper})
		g.env = append(g.env, userVariable+"="+q.remote.user, passwordVariable+"="+q.remote.password)
		g.hide = append(g.hide, q.remote.user, q.remote.password)
	}
	if header == "" && len(g.config) == 0 {
		return nil
	}
	return g.checkVersion(ctx)
}

// refsPath is what git asks a server first, below the repository.
const refsPath = "/info/refs"

// follow finds out where the address of a repository redirects to. With a
// token it may lead to the same scheme, host and port only.
func (f *Fetcher) follow(ctx context.Context, address, authorization string) (string, error) {
	client := *f.client
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if !redirect.SameOrigin(req.URL, via[0].URL) {
			return hint.Add(fmt.Errorf("the token for %s would be sent to %s, where the repository redirects to", originOf(via[0].URL), originOf(req.URL)),
				fmt.Sprintf("if %s may have the token, use this address: %s", req.URL.Host, withoutRefs(req.URL)))
		}
		return redirect.Check(req, via)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+refsPath+"?service=git-upload-pack", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", authorization)
	req.Header.Set("User-Agent", "git/2.0 (sinter)") // some servers have other answers for other programs
	resp, err := client.Do(req)
	var refused *hint.Error
	if errors.As(err, &refused) {
		return "", refused
	}
	if err != nil {
		return "", fmt.Errorf("following the redirect of %s: %w", remote.WithoutUser(address), errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if !strings.HasSuffix(resp.Request.URL.Path, refsPath) {
		return "", hint.Add(fmt.Errorf("%s redirects to %s, which is not a repository", remote.WithoutUser(address), remote.WithoutUser(resp.Request.URL.String())),
			"check the address of the repository and the token")
	}
	return withoutRefs(resp.Request.URL), nil
}

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

// withoutRefs is the address of the repository that a request was made to,
// without credentials.
func withoutRefs(u *url.URL) string {
	return originOf(u) + strings.TrimSuffix(u.EscapedPath(), refsPath)
}

// header is the Authorization header that secrets give: those for the host
// come first.
func (f *Fetcher) header(q request) (string, error) {
	for _, suffix := range []string{"." + q.remote.host, ""} {
		if q.headerSecret != "" {
			if v, ok, err := f.Secret(q.headerSecret + suffix); ok || err != nil {
				return v, err
			}
		}
		if q.tokenSecret != "" {
			v, ok, err := f.Secret(q.tokenSecret + suffix)
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

func (f *Fetcher) addAgent(ctx context.Context, g *program, id, path string) (stop func(), err error) {
	err = fs.ErrNotExist
	if f.SSH != nil {
		stop, err = f.SSH(ctx, id, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Add(fmt.Errorf("no ssh agent or key was given for id %q", id), "give one with --ssh "+id)
	}
	if err != nil {
		return nil, fmt.Errorf("serving the ssh agent %s: %w", id, err)
	}
	g.env = append(g.env, "SSH_AUTH_SOCK="+path)
	return stop, nil
}

// sshCommand is how git calls ssh: without the configuration and the keys of
// the user, never asking anybody, and only with hosts whose keys are in known,
// a file or "", or in the known_hosts files of the user, whose home directory may be
// given, and the machine. Keys are those of the agent in the environment.
func sshCommand(known, home string, agent bool) string {
	command := "ssh -F " + os.DevNull + " -o BatchMode=yes -o IdentityFile=none" +
		" -o StrictHostKeyChecking=yes -o UpdateHostKeys=no"
	if !agent {
		command += " -o IdentitiesOnly=yes -o IdentityAgent=none"
	}
	if known == "" && home == "" {
		return command
	}
	files := "~/.ssh/known_hosts" // of the user as ssh finds it
	if home != "" {
		files = `"` + filepath.Join(home, ".ssh", "known_hosts") + `"`
	}
	if known != "" {
		files = `"` + known + `" ` + files
	}
	return command + " -o 'UserKnownHostsFile=" + strings.ReplaceAll(files, "'", `'\''`) + "'"
}
