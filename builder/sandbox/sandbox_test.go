package sandbox

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

func TestMain(m *testing.M) {
	Dispatch()
	os.Exit(m.Run())
}

// applets are the names under which busybox is in the tests' root.
const applets = "sh true false echo cat id ls ps sleep kill mount grep touch mkdir rm rmdir env stat readlink wc head dd hostname chown chmod mknod ip test mv ln setsid tail awk sort unshare su"

// busybox makes a root of one layer with busybox in it.
func busybox(t testing.TB) string {
	t.Helper()
	if userns.Needed() {
		t.Skip("needs root, if only in a user namespace")
	}
	bin, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"bin/busybox":  string(data),
		"etc/passwd":   "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
		"etc/group":    "root:x:0:\nuser:x:1000:\nextra:x:1001:user\n",
		"etc/hostname": "image\n",
		"file":         "lower\n",
		"script":       "#!/bin/sh\necho script\n",
		"noexec":       "text\n",
		"root/dot":     "",
		"proc/":        "", "sys/": "", "dev/": "", "tmp/": "", "run/": "",
	})
	chmod(t, filepath.Join(dir, "noexec"), 0o644)
	chmod(t, filepath.Join(dir, "tmp"), 0o777|os.ModeSticky)
	for _, name := range strings.Fields(applets) {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// write makes files below a directory; a name with a final slash is a directory.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func chmod(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// box is a root for commands, each with an upper directory of its own.
type box struct {
	t     testing.TB
	lower string
	// upper is that of the last command.
	upper string
}

func newBox(t testing.TB) *box { return &box{t: t, lower: busybox(t)} }

// spec is a command on the root.
func (b *box) spec(args ...string) Spec {
	b.t.Helper()
	dir := b.t.TempDir()
	s := Spec{
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), TempDir: dir,
		Lower: []string{b.lower}, Args: args, Env: []string{"PATH=/bin"},
	}
	b.upper = s.Upper
	for _, d := range []string{s.Upper, s.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	return s
}

// sh is a script on the root.
func (b *box) sh(script string) Spec {
	b.t.Helper()
	return b.spec("/bin/sh", "-c", script)
}

// run runs a command and returns what it prints.
func (b *box) run(s Spec) (string, Result, error) {
	b.t.Helper()
	var out lockedBuffer
	s.Stdout, s.Stderr = &out, &out
	if _, err := os.Stat(s.TempDir); err != nil {
		b.t.Fatal(err)
	}
	r, err := Run(b.t.Context(), s)
	return out.String(), r, err
}

// lockedBuffer takes what is printed to both outputs.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string { return b.buf.String() }

// want runs a command that succeeds and prints this.
func (b *box) want(s Spec, want string) {
	b.t.Helper()
	out, _, err := b.run(s)
	if err != nil {
		b.t.Fatalf("%q: %v\n%s", s.Args, err, out)
	}
	if out != want {
		b.t.Fatalf("%q printed\n%s\nwant\n%s", s.Args, out, want)
	}
}

// fail runs a command that fails with this code and an error with this text.
func (b *box) fail(s Spec, code int, text string) *ExitError {
	b.t.Helper()
	out, r, err := b.run(s)
	var e *ExitError
	if !errors.As(err, &e) {
		b.t.Fatalf("%q: %v, want an ExitError\n%s", s.Args, err, out)
	}
	if r.ExitCode != code || e.ExitCode != code {
		b.t.Fatalf("%q: exit code %d, want %d: %v\n%s", s.Args, r.ExitCode, code, err, out)
	}
	if !strings.Contains(err.Error(), text) {
		b.t.Fatalf("%q: %v, want %q in it", s.Args, err, text)
	}
	return e
}

// left lists what the last command left in its upper directory, except for
// directories that were there before.
func (b *box) left() []string {
	b.t.Helper()
	names := []string{}
	err := filepath.WalkDir(b.upper, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == b.upper {
			return err
		}
		name, _ := filepath.Rel(b.upper, path)
		below, lerr := os.Lstat(filepath.Join(b.lower, name))
		info, err := d.Info()
		if err != nil {
			return err
		}
		if lerr == nil && d.IsDir() && below.IsDir() && below.ModTime().Equal(info.ModTime()) {
			return nil
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return names
}

func (b *box) wantLeft(want ...string) {
	b.t.Helper()
	got := b.left()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		b.t.Fatalf("the command left %q, want %q", got, want)
	}
}
