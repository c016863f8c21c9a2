package hostfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func take(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := Lock(t.Context(), path, "the lock", Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first := take(t, path)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("no longer wanted")
	cancel(reason)
	if f, err := Lock(ctx, path, "the lock", Exclusive); !errors.Is(err, reason) {
		t.Fatalf("got %v, %v beside the first", f, err)
	}
	if f, err := TryLock(path, Exclusive); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("got %v, %v beside the first", f, err)
	}
	done := make(chan error, 1)
	go func() {
		second, err := Lock(context.WithoutCancel(ctx), path, "the lock", Exclusive)
		if err == nil {
			err = second.Close()
		}
		done <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestLockTellsOfWait: whoever waits is told for what, once, and then gets the
// lock.
func TestLockTellsOfWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	others := make(chan *os.File)
	go func() { others <- take(t, path) }()
	first := <-others
	told := make(chan string, 2)
	ctx := WithWaiting(t.Context(), Waiting{Tell: func(what string) {
		told <- what
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	}})
	second, err := Lock(ctx, path, "the list of images", Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if what := <-told; what != "the list of images" || len(told) > 0 {
		t.Errorf("told of %q, and %d more", what, len(told))
	}
}

// TestLockIsOurs: nobody else can open a lock, and what somebody else put in its
// place is refused without a wait.
func TestLockIsOurs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "readable")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, filepath.Join(dir, "new")} {
		f := take(t, path)
		if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: got %v, %v", path, info.Mode(), err)
		}
		f.Close()
	}
	refused := map[string]func(path string) error{
		"pipe":    func(path string) error { return unix.Mkfifo(path, 0o600) },
		"symlink": func(path string) error { return os.Symlink("readable", path) },
	}
	if os.Geteuid() == 0 {
		refused["foreign"] = func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o666), os.Chown(path, stranger, stranger))
		}
	}
	for name, make := range refused {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if f, err := Lock(t.Context(), path, "the lock", Exclusive); err == nil {
			t.Errorf("%s: got %v", name, f)
		}
		var hint interface{ HintText() string }
		if _, err := TryLock(path, Exclusive); name != "symlink" && (!errors.As(err, &hint) || hint.HintText() == "") {
			t.Errorf("%s: no hint with %v", name, err)
		}
	}
}

// TestRemoveReadable: a file that others could open goes when whoever holds its lock
// lets go, or never does; one that took its name meanwhile stays.
func TestRemoveReadable(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause func(path string, held *os.File) bool
		stays bool
	}{
		{name: "let go in time", pause: func(_ string, held *os.File) bool {
			return held.Close() == nil
		}},
		{name: "held for ever", pause: func(string, *os.File) bool { return false }},
		{name: "replaced by its holder", stays: true, pause: func(path string, held *os.File) bool {
			return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600), held.Close()) == nil
		}},
	} {
		dir := t.TempDir()
		path, free := filepath.Join(dir, "lock"), filepath.Join(dir, "free")
		held := take(t, path)
		defer held.Close()
		if err := errors.Join(held.Chmod(0o640), os.WriteFile(free, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		pauses := 0
		err := removeReadable(dir, func() bool {
			pauses++
			if !Names(path, held) {
				t.Errorf("%s: the name has gone while the lock is held", c.name)
			}
			return c.pause(path, held)
		})
		if err != nil || pauses != 1 {
			t.Errorf("%s: got %v after %d pauses", c.name, err, pauses)
		}
		if _, err := os.Lstat(path); (err == nil) != c.stays {
			t.Errorf("%s: got %v", c.name, err)
		}
		if _, err := os.Lstat(free); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a free one is still there: %v", c.name, err)
		}
	}
}

func TestPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "above", "dir")
	file := filepath.Join(dir, "file")
	for range 2 {
		if err := Private(dir); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("got %v, %v", info.Mode(), err)
		}
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file that others may have locked is still there: %v", err)
		}
		if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Chmod(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
}
