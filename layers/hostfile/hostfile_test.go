package hostfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is an ID that nobody has.
const stranger = 54321

func pipe(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadTakesRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "text")
	pipe(t, filepath.Join(dir, "pipe"))
	if err := os.Symlink("pipe", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"pipe", "link", "."} {
		var kind *KindError
		if _, err := Read(filepath.Join(dir, name), 100); !errors.As(err, &kind) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := ReadIn(root, name, 100); !errors.As(err, &kind) {
			t.Errorf("%s in a root: got %v", name, err)
		}
	}
	var kind *KindError
	if _, err := Read("/dev/zero", 100); !errors.As(err, &kind) {
		t.Errorf("a device: got %v", err)
	}
	if data, err := Read(filepath.Join(dir, "file"), 4); string(data) != "text" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
	var size *SizeError
	if _, err := Read(filepath.Join(dir, "file"), 3); !errors.As(err, &size) {
		t.Errorf("got %v", err)
	}
}

func TestReadInStaysInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "secret"), "secret")
	write(t, filepath.Join(dir, "file"), "text")
	links := map[string]string{
		"absolute": filepath.Join(outside, "secret"), "relative": "../" + filepath.Base(outside) + "/secret",
		"folder": outside, "inside": "file",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"absolute", "relative", "folder/secret"} {
		var out *OutsideError
		if data, err := ReadIn(root, name, 100); !errors.As(err, &out) {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
	}
	if data, err := ReadIn(root, "inside", 100); string(data) != "text" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestReadStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	pipe(t, path)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if _, err := ReadStream(ctx, path, 100); !errors.Is(err, stopped) {
		t.Errorf("nobody writes: got %v", err)
	}
	// The wait that was left behind would read from the first pipe.
	path = filepath.Join(t.TempDir(), "another")
	pipe(t, path)
	writer, err := os.OpenFile(path, os.O_RDWR, 0) // which waits for no reader
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	r, err := OpenStream(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 4)
	if n, err := r.Read(buf); string(buf[:n]) != "text" || err != nil {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	writer.Close()
	if _, err := r.Read(buf); err == nil {
		t.Error("the pipe goes on without a writer")
	}
	var size *SizeError
	if _, err := ReadStream(t.Context(), "/dev/zero", 100); !errors.As(err, &size) {
		t.Errorf("a device: got %v", err)
	}
}
