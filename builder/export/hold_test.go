package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/store"
)

func turnsOf(t *testing.T, s *store.Store) turns {
	return turns{store: s, wait: maxDirWait, warn: func(text string) { t.Errorf("warned: %s", text) }}
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

// TestLayoutOfManyStores: builds with different stores lose no entry of the layout
// that they write.
func TestLayoutOfManyStores(t *testing.T) {
	const stores, exports = 2, 4
	dir := t.TempDir()
	var group errgroup.Group
	for i := range stores {
		s := openStore(t)
		b := assemble(t, s, Options{}, sample(t, s, amd64))
		for j := range exports {
			images := []Named{{b, []string{fmt.Sprintf("docker.io/library/app:%d-%d", i, j)}}}
			group.Go(func() error { return writeLayout(t.Context(), images, dir, turnsOf(t, s)) })
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err = errors.Join(err, json.Unmarshal(data, &index)); err != nil {
		t.Fatal(err)
	}
	if got := len(index.Manifests); got != stores*exports {
		t.Errorf("the index has %d manifests of %d", got, stores*exports)
	}
}

// TestTurnsOfTwoStores: whoever comes second waits, says so, and goes on when the
// first is done.
func TestTurnsOfTwoStores(t *testing.T) {
	root := openRoot(t, t.TempDir())
	first, err := turnsOf(t, openStore(t)).take(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	ctx := hostfile.WithWaiting(t.Context(), hostfile.Waiting{Tell: func(what string) {
		told = append(told, what)
		first()
	}})
	second, err := turnsOf(t, openStore(t)).take(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	second()
	if len(told) != 1 || !strings.Contains(told[0], root.Name()) {
		t.Errorf("told of %q", told)
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
		s := openStore(t)
		turn := turns{store: s, warn: func(text string) { warned = append(warned, text) }}
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		ctx = hostfile.WithWaiting(ctx, hostfile.Waiting{Tell: func(string) {
			if !open {
				cancel(stopped)
			}
		}})
		err = writeLayout(ctx, []Named{{Built: assemble(t, s, Options{}, sample(t, s, amd64))}}, dir, turn)
		switch {
		case open && (err != nil || len(warned) != 1 || !strings.Contains(warned[0], dir)):
			t.Errorf("others can open it: got %v, warned %q", err, warned)
		case !open && (!errors.Is(err, stopped) || len(warned) > 0):
			t.Errorf("nobody else can open it: got %v, warned %q", err, warned)
		}
		if open {
			validateLayout(t, dir)
		}
		cancel(nil)
	}
}

// TestLocalKeepsLivingTemps: a build that looks for leftovers leaves the files that
// another one is writing.
func TestLocalKeepsLivingTemps(t *testing.T) {
	dir := t.TempDir()
	writer, other := &localWriter{root: openRoot(t, dir)}, &localWriter{root: openRoot(t, dir)}
	e := layers.Entry{Path: "file", Mode: 0o644, ModTime: noon.UnixNano()}
	err := writer.file(t.Context(), e, 0, func(context.Context, layers.Entry, int) (io.ReadCloser, error) {
		return io.NopCloser(readerFunc(func([]byte) (int, error) {
			if err := other.removeTemps("."); err != nil {
				return 0, err
			}
			return 0, io.EOF
		})), nil
	})
	if err != nil {
		t.Error(err)
	}
	// From its last byte to its name.
	f, err := os.Create(filepath.Join(dir, localTemp+"0123456789ab"))
	if err != nil {
		t.Fatal(err)
	}
	release, err := keepLocked(f)
	if err := errors.Join(err, f.Close(), other.removeTemps(".")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(f.Name()); err != nil {
		t.Error(err)
	}
	release()
	if err := other.removeTemps("."); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(f.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a leftover stays: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

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
		var hint interface{ HintText() string }
		root, err = openPlace(p, dest)
		if err == nil {
			root.Close()
		}
		if err = placed(dest, err); root != nil || !errors.As(err, &hint) || hint.HintText() == "" {
			t.Errorf("%s: got %v, %v", name, root, err)
		}
	}
}
