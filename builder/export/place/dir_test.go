package place

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/store"
)

func turnsOf(t *testing.T, s *store.Store) Turns {
	return Turns{Store: s, Wait: MaxWait, Warn: func(text string) { t.Errorf("warned: %s", text) }}
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// TestTurnsOfTwoStores: whoever comes second waits, says so, and goes on when the
// first is done.
func TestTurnsOfTwoStores(t *testing.T) {
	root := openRoot(t, t.TempDir())
	first, err := turnsOf(t, exporttest.OpenStore(t)).Take(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	ctx := hostfile.WithWaiting(t.Context(), hostfile.Waiting{Tell: func(what string) {
		told = append(told, what)
		first()
	}})
	second, err := turnsOf(t, exporttest.OpenStore(t)).Take(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	second()
	if len(told) != 1 || !strings.Contains(told[0], root.Name()) {
		t.Errorf("told of %q", told)
	}
}

// TestLocksOfTurnsGo: prune removes the lock of a directory that nobody writes into, and
// no other.
func TestLocksOfTurnsGo(t *testing.T) {
	s := exporttest.OpenStore(t)
	release, err := turnsOf(t, s).Take(t.Context(), openRoot(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		if err := s.RemoveLocks(); err != nil {
			t.Fatal(err)
		}
		left, err := filepath.Glob(filepath.Join(s.Root(), "locks", "output-*"))
		if err != nil || len(left) != want {
			t.Errorf("left: %v, %v; want %d", left, err, want)
		}
		if want == 1 {
			release()
		}
	}
}

// TestForeignLockOfDirectory: a lock on a directory that others can open delays a
// build; on one that is ours alone it is another build's.
func TestForeignLockOfDirectory(t *testing.T) {
	for _, open := range []bool{true, false} {
		dir := t.TempDir()
		mode := os.FileMode(0o711)
		if open {
			mode = 0o755
		}
		lock, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := errors.Join(lock.Chmod(mode), unix.Flock(int(lock.Fd()), unix.LOCK_SH)); err != nil {
			t.Fatal(err)
		}
		var warned []string
		s := exporttest.OpenStore(t)
		turn := Turns{Store: s, Warn: func(text string) { warned = append(warned, text) }}
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		ctx = hostfile.WithWaiting(ctx, hostfile.Waiting{Tell: func(string) {
			if !open {
				cancel(stopped)
			}
		}})
		release, err := turn.Take(ctx, openRoot(t, dir))
		if err == nil {
			release()
		}
		switch {
		case open && (err != nil || len(warned) != 1 || !strings.Contains(warned[0], dir)):
			t.Errorf("others can open it: got %v, warned %q", err, warned)
		case !open && (!errors.Is(err, stopped) || len(warned) > 0):
			t.Errorf("nobody else can open it: got %v, warned %q", err, warned)
		}
		cancel(nil)
	}
}

// TestOpenDestIsWhatWasFound: what takes the directory's place after it was found is
// not written into.
func TestOpenDestIsWhatWasFound(t *testing.T) {
	for name, exchange := range map[string]string{"the directory": "up/out", "one above it": "up"} {
		dir := t.TempDir()
		dest := filepath.Join(dir, "up", "out")
		other := filepath.Join(dir, "other")
		if err := errors.Join(os.MkdirAll(dest, 0o755), os.MkdirAll(filepath.Join(other, "out"), 0o755)); err != nil {
			t.Fatal(err)
		}
		p, err := hostfile.Find(dest)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		root, err := openPlace(p, dest)
		if err != nil {
			t.Fatal(err)
		}
		root.Close()
		path := filepath.Join(dir, exchange)
		if err := errors.Join(os.Rename(path, path+".old"), os.Symlink(other, path)); err != nil {
			t.Fatal(err)
		}
		var hinted interface{ HintText() string }
		root, err = openPlace(p, dest)
		if err == nil {
			root.Close()
		}
		if err = Error(dest, err); root != nil || !errors.As(err, &hinted) || hinted.HintText() == "" {
			t.Errorf("%s: got %v, %v", name, root, err)
		}
	}
}
