package ssh

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// keyFile writes a private key and returns its path.
func keyFile(t testing.TB, key any, passphrase string) string {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func ed25519Key(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// person runs the agent of a person with one key and returns its socket. It is
// an ordinary agent: it lets itself be changed.
func person(t testing.TB) (socket string, keys agent.Agent) {
	t.Helper()
	keys = agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: ed25519Key(t), Comment: "hers"}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
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
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(keys, conn)
			}()
		}
	}()
	return socket, keys
}

// serve listens for a source and returns the socket's path.
func serve(t testing.TB, src Source) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	stop, err := Listen(t.Context(), path, os.Getuid(), os.Getgid(), 0o600, src)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return path
}

func dial(t testing.TB, path string) agent.ExtendedAgent {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return agent.NewClient(conn)
}

// withKeys reads a source's keys.
func withKeys(t testing.TB, src Source) Source {
	t.Helper()
	src, err := src.ReadKeys(t.Context(), new(hostfile.Streams))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// checkAgent lists and signs with every key, then tries to change the agent.
func checkAgent(t *testing.T, a agent.ExtendedAgent, want int) {
	t.Helper()
	keys, err := a.List()
	if err != nil || len(keys) != want {
		t.Fatalf("%d keys, want %d: %v", len(keys), want, err)
	}
	for _, k := range keys {
		sig, err := a.Sign(k, []byte("data"))
		if err != nil {
			t.Fatalf("signing with %s: %v", k.Type(), err)
		}
		pub, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			t.Fatal(err)
		}
		if err := pub.Verify([]byte("data"), sig); err != nil {
			t.Errorf("signature of %s: %v", k.Type(), err)
		}
		if k.Type() == ssh.KeyAlgoRSA {
			sig, err := a.SignWithFlags(k, []byte("data"), agent.SignatureFlagRsaSha512)
			if err != nil || sig.Format != ssh.KeyAlgoRSASHA512 {
				t.Errorf("rsa-sha2-512: %+v, %v", sig, err)
			}
		}
	}
	pub, err := ssh.ParsePublicKey(keys[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	_, extension := a.Extension("session-bind@openssh.com", nil)
	for name, err := range map[string]error{
		"add":       a.Add(agent.AddedKey{PrivateKey: ed25519Key(t)}),
		"remove":    a.Remove(pub),
		"removeAll": a.RemoveAll(),
		"lock":      a.Lock([]byte("x")),
		"unlock":    a.Unlock([]byte("x")),
		"extension": extension,
	} {
		if err == nil {
			t.Errorf("%s is allowed", name)
		}
	}
	if after, err := a.List(); err != nil || len(after) != want {
		t.Errorf("%d keys afterwards: %v", len(after), err)
	}
}

func TestKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{keyFile(t, ed25519Key(t), ""), keyFile(t, rsaKey, ""), keyFile(t, ecKey, "")}
	src, err := Parse("id=" + strings.Join(files, ","))
	if err != nil {
		t.Fatal(err)
	}
	if src.ID != "id" || !slices.Equal(src.Keys, files) || src.Socket != "" {
		t.Errorf("%+v", src)
	}
	checkAgent(t, dial(t, serve(t, withKeys(t, src))), 3)
}

// TestKeyPipe: a key in a pipe is read once for all sockets, and the wait for it
// ends with the context.
func TestKeyPipe(t *testing.T) {
	key, err := os.ReadFile(keyFile(t, ed25519Key(t), ""))
	if err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := Parse("id=" + pipe)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(pipe, key, 0) }()
	read := withKeys(t, src)
	for range 2 {
		checkAgent(t, dial(t, serve(t, read)), 1)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if _, err := src.ReadKeys(ctx, new(hostfile.Streams)); !errors.Is(err, stopped) {
		t.Errorf("nobody writes: %v", err)
	}
}

func TestAgent(t *testing.T) {
	socket, hers := person(t)
	t.Setenv("SSH_AUTH_SOCK", socket)
	for _, flag := range []string{"default", "", "default=" + socket, "default="} {
		src, err := Parse(flag)
		if err != nil {
			t.Fatal(err)
		}
		if src.ID != "default" || src.Socket != socket {
			t.Errorf("%q: %+v", flag, src)
		}
		path := serve(t, src)
		checkAgent(t, dial(t, path), 1)
		checkAgent(t, dial(t, path), 1) // a second connection
	}
	if keys, err := hers.List(); err != nil || len(keys) != 1 || keys[0].Comment != "hers" {
		t.Errorf("the person's agent was changed: %v, %v", keys, err)
	}
}

// TestOpenSSH has OpenSSH's own agent on one side and its client on the other.
func TestOpenSSH(t *testing.T) {
	for _, program := range []string{"ssh-agent", "ssh-add"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent")
	hers := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := hers.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hers.Process.Kill(); _ = hers.Wait() })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("ssh-agent does not listen: %v", err)
		}
	}
	add := func(socket string, args ...string) (string, error) {
		cmd := exec.Command("ssh-add", args...)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	key := keyFile(t, ed25519Key(t), "")
	if out, err := add(socket, key); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	theirs := serve(t, Source{ID: "a", Socket: socket})
	if out, err := add(theirs, "-l"); err != nil || !strings.Contains(out, "ED25519") {
		t.Errorf("ssh-add -l: %v: %s", err, out)
	}
	public, err := add(theirs, "-L")
	if err != nil {
		t.Fatalf("%v: %s", err, public)
	}
	pub := filepath.Join(t.TempDir(), "pub")
	if err := os.WriteFile(pub, []byte(public), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := add(theirs, "-T", pub); err != nil { // signs and verifies
		t.Errorf("ssh-add -T: %v: %s", err, out)
	}
	if out, err := add(theirs, "-D"); err == nil {
		t.Errorf("ssh-add -D is allowed: %s", out)
	}
	if out, err := add(theirs, keyFile(t, ed25519Key(t), "")); err == nil {
		t.Errorf("adding a key is allowed: %s", out)
	}
	if out, err := add(socket, "-l"); err != nil || strings.Count(out, "\n") != 1 {
		t.Errorf("her agent was changed: %v: %s", err, out)
	}
}

func TestParseErrors(t *testing.T) {
	socket, _ := person(t)
	other, _ := person(t)
	key := keyFile(t, ed25519Key(t), "")
	locked := keyFile(t, ed25519Key(t), "secret")
	pub, err := ssh.NewPublicKey(ed25519Key(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public := file("public", ssh.MarshalAuthorizedKey(pub))
	huge := file("huge", bytes.Repeat([]byte{'a'}, maxKeySize+1))
	text := file("text", []byte("hello"))
	for flag, want := range map[string]string{
		"a":                            "SSH_AUTH_SOCK is not set",
		"a=":                           "SSH_AUTH_SOCK is not set",
		"a=/nowhere":                   "no such file",
		"a=" + locked:                  "passphrase",
		"a=" + key + "," + locked:      "passphrase",
		"a=" + public:                  "a public key",
		"a=" + huge:                    "larger than",
		"a=" + text:                    "no private key",
		"a=" + dir:                     "is a directory",
		"a=" + key + ",":               "empty path",
		"a=" + socket + "," + other:    "more than one socket",
		"a=" + socket + "," + key:      "together",
		"a=" + key + "," + socket:      "together",
		"named with spaces = /nowhere": "no such file",
	} {
		t.Setenv("SSH_AUTH_SOCK", "")
		s, err := Parse(flag)
		if err == nil {
			s, err = s.ReadKeys(t.Context(), new(hostfile.Streams))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", flag, s, err, want)
		}
	}
	t.Setenv("SSH_AUTH_SOCK", text)
	if _, err := Parse("default"); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("SSH_AUTH_SOCK that is a file: %v", err)
	}
}

func TestSocket(t *testing.T) {
	src := withKeys(t, Source{ID: "a", Keys: []string{keyFile(t, ed25519Key(t), "")}})
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 1000, 1001
	}
	path := filepath.Join(long, "sock")
	stop, err := Listen(t.Context(), path, uid, gid, 0o640, src)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o640 {
		t.Errorf("%v, %v", info, err)
	}
	t.Chdir(long)
	checkAgent(t, dial(t, "sock"), 1)
	if _, err := Listen(t.Context(), path, uid, gid, 0o600, src); err == nil {
		t.Error("a second socket at the same path")
	}
	stop()
	stop()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestSingleID is TestSocket in a user namespace without the socket's owner.
func TestSingleID(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestSocket$", "-test.v")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("no user namespace: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSocket") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStop ends connections in the middle of a request, to agents that never
// answer, and by the context.
func TestStop(t *testing.T) {
	mute := filepath.Join(t.TempDir(), "mute")
	l, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, byContext := range map[string]bool{"stop": false, "context": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := filepath.Join(t.TempDir(), "sock")
			stop, err := Listen(ctx, path, os.Getuid(), os.Getgid(), 0o600, Source{ID: "a", Socket: mute})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte{0, 0, 0, 1, 11}); err != nil { // list the keys
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			if byContext {
				cancel()
			} else {
				stop()
			}
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			// The answer may be on its way already; then comes the end.
			if n, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
				t.Errorf("the connection goes on: %d, %v", n, err)
			}
			stop()
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("the socket is still there: %v", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	path := filepath.Join(t.TempDir(), "sock")
	if _, err := Listen(t.Context(), path, 0, 0, 0o600, Source{ID: "a", Socket: dead}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("an agent that is gone: %v", err)
	}
	if _, err := Listen(t.Context(), path, 0, 0, 0o600, Source{ID: "a"}); err == nil {
		t.Error("a source of nothing")
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("a socket was left: %v", err)
	}
}

// FuzzClient sends what a hostile command may send; the keys must stay as they
// are and the next client must be served.
func FuzzClient(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 11})
	f.Add([]byte{0, 0, 0, 1, 19}) // remove all
	f.Add([]byte{0, 0, 0, 5, 13, 0, 0, 0, 255})
	f.Add([]byte{255, 255, 255, 255})
	f.Add([]byte{0, 0, 0, 0})
	path := serve(f, withKeys(f, Source{ID: "a", Keys: []string{keyFile(f, ed25519Key(f), "")}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(data) // it may hang up in the middle
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
		keys, err := dial(t, path).List()
		if err != nil || len(keys) != 1 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
	})
}

// FuzzParse checks that a flag that is accepted means something.
func FuzzParse(f *testing.F) {
	key := keyFile(f, ed25519Key(f), "")
	f.Add("default")
	f.Add("a=" + key)
	f.Add("=" + key + "," + key)
	f.Fuzz(func(t *testing.T, flag string) {
		t.Setenv("SSH_AUTH_SOCK", "")
		s, err := Parse(flag)
		if err == nil && (s.ID == "" || len(s.Keys) == 0 && s.Socket == "") {
			t.Errorf("%q: %+v", flag, s)
		}
	})
}
