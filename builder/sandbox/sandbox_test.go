package sandbox

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	if Dispatch() {
		return
	}
	os.Exit(m.Run())
}

// busybox makes a root of one layer with busybox in it.
func busybox(t testing.TB) string {
	t.Helper()
	bin, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"bin/busybox": string(data),
		"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
		"etc/group":   "root:x:0:\nuser:x:1000:\nextra:x:1001:user\n",
		"file":        "lower\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "true", "echo", "cat", "id", "ls", "ps", "sleep", "kill", "mount", "grep", "touch", "mkdir", "rm", "env", "ulimit", "stat"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newSpec is a command on a root of busybox.
func newSpec(t testing.TB, lower string, args ...string) (Spec, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	out := &bytes.Buffer{}
	s := Spec{
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), TempDir: dir,
		Args: args, Env: []string{"PATH=/bin"}, Stdout: out, Stderr: out,
	}
	if lower != "" {
		s.Lower = []string{lower}
	}
	for _, d := range []string{s.Upper, s.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s, out
}

func TestEcho(t *testing.T) {
	s, out := newSpec(t, busybox(t), "echo", "hello")
	if _, err := Run(t.Context(), s); err != nil {
		t.Fatal(err, out)
	}
	if out.String() != "hello\n" {
		t.Fatalf("got %q", out)
	}
}

func BenchmarkTrue(b *testing.B) {
	lower := busybox(b)
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		s, out := newSpec(b, lower, "/bin/true")
		if _, err := Run(b.Context(), s); err != nil {
			b.Fatal(err, out)
		}
	}
	_ = dir
}
