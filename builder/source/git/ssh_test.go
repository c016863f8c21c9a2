package git

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// fakeSSH puts a program called ssh first on PATH. It writes its arguments, its
// environment and its session to files of the returned directory, and fails as
// ssh does.
func fakeSSH(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
cd %s
printf '%%s\n' "$@" > args
env > env
cut -d' ' -f6 /proc/self/stat > session
if (: < /dev/tty) 2>/dev/null; then echo has a terminal > tty; fi
echo 'git@host: Permission denied (publickey).' >&2
exit 255
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// withSubmodule gives a repository a submodule at an address.
func (o *origin) withSubmodule(address string) {
	o.t.Helper()
	commit := o.write(map[string]string{"f": "f", ".gitmodules": "[submodule \"mod\"]\n\tpath = mod\n\turl = " + address + "\n"})
	o.git("update-index", "--add", "--cacheinfo", "160000,"+commit+",mod")
	o.git("commit", "-q", "-m", "submodule")
	o.push()
}

// TestGitNoOwnKeys: whatever repository is asked for, ssh gets neither keys nor
// configuration of the user, and can ask nobody.
func TestGitNoOwnKeys(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "ran")
	for _, name := range []string{"GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_PROXY_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_EDITOR"} {
		t.Setenv(name, "touch "+marker)
	}
	t.Setenv("SSH_AUTH_SOCK", "/nonexistent/agent")
	t.Setenv("DISPLAY", ":0")
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "core.sshCommand")
	t.Setenv("GIT_CONFIG_VALUE_0", "touch "+marker)
	t.Setenv("GIT_CONFIG_PARAMETERS", "'core.sshCommand'='touch "+marker+"'")

	web := serveGit(t, smart)
	web.withSubmodule("ssh://git@host/private.git")
	for name, op := range map[string]parser.Git{
		"submodule":    {FullURL: web.url()},
		"main address": {FullURL: "ssh://git@host/private.git"},
		"short":        {FullURL: "git@host:private.git"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fakeSSH(t)
			_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), op)
			if err == nil || !strings.Contains(hint.Of(err), "--ssh default") {
				t.Errorf("got %v, hint %q", err, hint.Of(err))
			}
			args := strings.Join(lines(t, filepath.Join(dir, "args")), " ")
			for _, want := range []string{
				"-F /dev/null", "BatchMode=yes", "IdentitiesOnly=yes", "IdentityFile=none", "IdentityAgent=none",
				"StrictHostKeyChecking=yes", "UpdateHostKeys=no",
			} {
				if !strings.Contains(args, want) {
					t.Errorf("ssh was called without %s: %s", want, args)
				}
			}
			for _, v := range lines(t, filepath.Join(dir, "env")) {
				name, _, _ := strings.Cut(v, "=")
				if slices.Contains([]string{"SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "GIT_ASKPASS", "GIT_SSH", "DISPLAY", "GIT_PROXY_COMMAND"}, name) {
					t.Errorf("ssh saw %s", v)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "tty")); err == nil {
				t.Error("ssh has a terminal")
			}
			if mine := session(t); lines(t, filepath.Join(dir, "session"))[0] == mine {
				t.Errorf("ssh ran in the session %s of this process", mine)
			}
		})
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program of the environment ran")
	}
}

func session(t *testing.T) string {
	t.Helper()
	return strings.Fields(lines(t, "/proc/self/stat")[0])[5]
}

// TestGitPath: git starts no program from the repository's files, whatever PATH is.
func TestGitPath(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"/usr/bin:/bin", "/usr/bin:/bin"},
		{".:/usr/bin::/bin:bin:./x:", "/usr/bin:/bin"},
		{"", ""},
	} {
		if got := absolute(tt.path); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.path, got, tt.want)
		}
	}
	marker := filepath.Join(t.TempDir(), "ran")
	server := serveGit(t, smart)
	server.write(map[string]string{"ssh": "#!/bin/sh\ntouch " + marker + "\nexit 1\n"})
	server.git("update-index", "--chmod=+x", "ssh")
	server.withSubmodule("ssh://git@host/private.git")
	t.Setenv("PATH", ".::"+os.Getenv("PATH"))
	if _, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: server.url()}); err == nil {
		t.Error("a private submodule was fetched")
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program of the repository ran")
	}
}

// TestGitAgentOnly: with an agent only its keys are offered, none from files.
func TestGitAgentOnly(t *testing.T) {
	dir := fakeSSH(t)
	r := fetcher(t, t.TempDir(), nil)
	var socket string
	r.SSH = func(_ context.Context, _, path string) (func(), error) {
		socket = path
		return func() {}, nil
	}
	op := parser.Git{FullURL: "ssh://git@host/x.git", MountSSHSock: "mine", KnownSSHHosts: "host ssh-ed25519 AAAA\n"}
	_, err := r.Files(t.Context(), op)
	if err == nil || !strings.Contains(hint.Of(err), "--ssh mine") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	args := strings.Join(lines(t, filepath.Join(dir, "args")), " ")
	if !strings.Contains(args, "IdentityFile=none") || strings.Contains(args, "IdentitiesOnly") || strings.Contains(args, "IdentityAgent") {
		t.Errorf("ssh was called with %s", args)
	}
	if !strings.Contains(args, "/known_hosts") {
		t.Errorf("ssh was called without the keys of hosts: %s", args)
	}
	if !slices.Contains(lines(t, filepath.Join(dir, "env")), "SSH_AUTH_SOCK="+socket) {
		t.Error("ssh did not see the agent")
	}
}

// TestSSHOptions: ssh itself reads the options as they are meant.
func TestSSHOptions(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is not installed")
	}
	for _, tt := range []struct{ known, home, want string }{
		{"/dir with 'quotes'/known", "", `^/dir with 'quotes'/known .*/\.ssh/known_hosts$`},
		{"/dir with 'quotes'/known", "/home/it's me", `^/dir with 'quotes'/known /home/it's me/\.ssh/known_hosts$`},
		{"", "/home/it's me", `^/home/it's me/\.ssh/known_hosts$`},
		{"", "", `^/.*/\.ssh/known_hosts /.*/\.ssh/known_hosts2$`},
	} {
		out, err := exec.Command("sh", "-c", sshCommand(tt.known, tt.home, false)+" -G host").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		checkSSHOptions(t, string(out), regexp.MustCompile(tt.want))
	}
}

func checkSSHOptions(t *testing.T, out string, known *regexp.Regexp) {
	t.Helper()
	got := strings.Split(strings.ToLower(out), "\n")
	for _, want := range []string{"batchmode yes", "identitiesonly yes", "identityagent none", "updatehostkeys false", "gssapiauthentication no"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	for _, line := range got {
		switch name, value, _ := strings.Cut(line, " "); name {
		case "identityfile":
			if value != "none" {
				t.Errorf("ssh uses the key %s", value)
			}
		case "userknownhostsfile":
			if !known.MatchString(value) {
				t.Errorf("ssh reads the keys of hosts in %s, want %s", value, known)
			}
		}
	}
}

// TestGitSSH clones over a real ssh from a server that wants no key but shows
// its own.
func TestGitSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is not installed")
	}
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "f"})
	address, key := serveSSH(t, o.bare)
	host, port, _ := net.SplitHostPort(address)
	url := "ssh://git@" + address + "/repo.git"
	known := fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(key))

	got, err := gitFile(t, fetcher(t, t.TempDir(), nil), parser.Git{FullURL: url, KnownSSHHosts: known}, "f")
	if got != "f" || err != nil {
		t.Errorf("with the key of the host: got %q, %v", got, err)
	}
	_, err = gitFile(t, fetcher(t, t.TempDir(), nil), parser.Git{FullURL: url}, "f")
	if err == nil || !strings.Contains(err.Error(), "Host key verification failed") || !strings.Contains(hint.Of(err), "ssh-keyscan -p "+port+" "+host) {
		t.Errorf("without: got %v, hint %q", err, hint.Of(err))
	}
	_, other := newKey(t)
	known = fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(other.PublicKey()))
	_, err = gitFile(t, fetcher(t, t.TempDir(), nil), parser.Git{FullURL: url, KnownSSHHosts: known}, "f")
	if err == nil || !strings.Contains(hint.Of(err), "not the one in known_hosts") {
		t.Errorf("with another key: got %v, hint %q", err, hint.Of(err))
	}
}

func newKey(t *testing.T) (ed25519.PrivateKey, ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, signer
}

// serveSSH serves one repository to everybody.
func serveSSH(t *testing.T, bare string) (address string, key ssh.PublicKey) {
	t.Helper()
	_, signer := newKey(t)
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSHConn(conn, config, bare)
		}
	}()
	return l.Addr().String(), signer.PublicKey()
}

func serveSSHConn(conn net.Conn, config *ssh.ServerConfig, bare string) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		ch, requests, err := c.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				_ = r.Reply(r.Type == "env", nil)
				continue
			}
			_ = r.Reply(true, nil)
			cmd := exec.Command("git", "upload-pack", bare)
			cmd.Stdout = ch
			in, _ := cmd.StdinPipe()
			go func() {
				_, _ = io.Copy(in, ch)
				in.Close()
			}()
			code := uint32(0)
			if cmd.Run() != nil {
				code = 1
			}
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
			ch.Close()
		}
	}
}
