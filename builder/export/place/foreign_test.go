package place

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// stranger is an ID that nobody has.
const stranger = 54321

// sticky makes a directory as /tmp is.
func sticky(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of another user")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeText(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// TestOutputFollowsNoForeignLink: another user's symlink where an output is to be
// decides nothing.
func TestOutputFollowsNoForeignLink(t *testing.T) {
	dir, victim := sticky(t), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "out.tar")
	if err := errors.Join(os.Symlink(victim, path), os.Lchown(path, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(t.Context(), path, writeText("output"))
	var foreign *hostfile.ForeignError
	var hinted interface{ HintText() string }
	if !errors.As(err, &foreign) || !errors.As(err, &hinted) || hinted.HintText() == "" {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(victim); string(data) != "precious" || err != nil {
		t.Errorf("the file holds %q, %v", data, err)
	}
	if err := Check(path); !errors.As(err, &foreign) {
		t.Errorf("before the build: got %v", err)
	}
}

// TestOutputIsNoDirectory: a name that ends in a slash is a directory's, and makes
// nothing.
func TestOutputIsNoDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := WriteFile(t.Context(), path+"/", writeText("output")); !errors.Is(err, unix.EISDIR) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

// TestOutputIgnoresForeignLeftovers: files of another user under temporary names
// stop nobody, pipes among them.
func TestOutputIgnoresForeignLeftovers(t *testing.T) {
	dir := sticky(t)
	left := filepath.Join(dir, ".out.0123456789ab.tmp")
	pipe := filepath.Join(dir, ".out.0123456789ac.tmp")
	err := errors.Join(os.WriteFile(left, nil, 0o644), os.Lchown(left, stranger, stranger), unix.Mkfifo(pipe, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(t.Context(), filepath.Join(dir, "out"), writeText("output")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); err != nil {
		t.Errorf("another user's file has gone: %v", err)
	}
}

// TestOutputIntoPipeEndsWithContext: nobody reads the pipe.
func TestOutputIntoPipeEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if err := WriteFile(ctx, path, writeText("output")); !errors.Is(err, stopped) {
		t.Errorf("without a reader: got %v", err)
	}
	// A reader that never reads: the pipe fills up.
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel = context.WithCancelCause(t.Context())
	err = WriteFile(ctx, path, func(w io.Writer) error {
		go cancel(stopped)
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, stopped) {
		t.Errorf("with an idle reader: got %v", err)
	}
}

// TestOutputIntoOpenFile: /proc/self/fd/N, and so /dev/stdout, is what is open
// there.
func TestOutputIntoOpenFile(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	link := filepath.Join(t.TempDir(), "stdout")
	if err := os.Symlink(openFile(int(w.Fd())), link); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(WriteFile(t.Context(), link, writeText("output")), w.Close()); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(r); string(data) != "output" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
}

// TestOutputIntoSocket: a socket cannot be opened, at its name or as an open file, nor
// can an open pipe without a reader; nobody waits until they can.
func TestOutputIntoSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, path := range []string{path, openFile(fds[0]), openFile(int(w.Fd()))} {
		ctx := hostfile.WithWaiting(t.Context(), hostfile.Waiting{Tell: func(what string) {
			t.Errorf("waits for %s", what)
		}})
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		var hinted interface{ HintText() string }
		// A wait would end with the context.
		err := writeFile(ctx, path, writeText("output"))
		if !errors.Is(err, unix.ENXIO) || !errors.As(Error(path, err), &hinted) || hinted.HintText() == "" {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func openFile(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// TestOutputIntoPipeTellsOfWait: who waits for the reader of a pipe is told so.
func TestOutputIntoPipeTellsOfWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var reader *os.File
	ctx := hostfile.WithWaiting(t.Context(), hostfile.Waiting{Tell: func(what string) {
		var err error
		if reader, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			t.Error(err)
		}
		if what != "somebody to read the pipe pipe" {
			t.Errorf("got %q", what)
		}
	}})
	if err := WriteFile(ctx, path, writeText("output")); err != nil || reader == nil {
		t.Fatalf("got %v, told: %v", err, reader != nil)
	}
	defer reader.Close()
	if data, err := io.ReadAll(reader); string(data) != "output" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
}
