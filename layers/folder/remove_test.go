package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fill makes n files in a new directory below dir.
func fill(t *testing.T, dir string, n int) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestRemoveAll: everything goes, whatever it forbids and however long its path is,
// and nothing that a symlink leads to.
func TestRemoveAll(t *testing.T) {
	top, kept := filepath.Join(t.TempDir(), "top"), fill(t, t.TempDir(), 1)
	fill(t, filepath.Join(top, "many"), 3*patience)
	fill(t, filepath.Join(top, "a", "b"), 3)
	if err := os.Symlink(kept, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	// A path that no system call takes as a whole.
	dir, err := os.OpenRoot(fill(t, filepath.Join(top, "long"), 1))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * unix.PathMax / 200 {
		name := strings.Repeat("d", 200)
		if err := dir.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		below, err := dir.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		dir.Close()
		dir = below
	}
	dir.Close()
	if err := os.Chmod(filepath.Join(top, "a"), 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := RemoveAll(t.Context(), top); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(top); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(kept, "0")); err != nil {
		t.Error(err)
	}
}

// TestRemoveAllStaysInside: a directory that becomes a symlink while it is emptied leads
// nowhere else, and its target keeps its mode.
func TestRemoveAllStaysInside(t *testing.T) {
	top, kept := t.TempDir(), fill(t, t.TempDir(), 1)
	if err := os.Symlink(kept, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenRoot(top)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r := removal{ctx: t.Context(), insists: true}
	if err := r.empty(in, "link"); err == nil {
		t.Error("it was emptied")
	}
	if _, err := os.Stat(filepath.Join(kept, "0")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() == 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestRemoveAllEnds: the removal of a large folder ends with the context, that of a
// small one does not.
func TestRemoveAllEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("a signal")
	cancel(cause)
	small := fill(t, filepath.Join(t.TempDir(), "small"), patience-2)
	if err := RemoveAll(ctx, small); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(small); err == nil {
		t.Error("a small folder is still there")
	}
	large := filepath.Join(t.TempDir(), "large")
	for i := range 3 {
		fill(t, filepath.Join(large, strconv.Itoa(i)), patience)
	}
	if err := RemoveAll(ctx, large); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	left := 0
	_ = filepath.WalkDir(large, func(_ string, d fs.DirEntry, _ error) error {
		if d.Type().IsRegular() {
			left++
		}
		return nil
	})
	if left < patience || left >= 3*patience {
		t.Errorf("of %d files %d are left", 3*patience, left)
	}
	if err := RemoveAll(t.Context(), large); err != nil {
		t.Error(err)
	}
}

// TestRemoveAllBusy: what cannot be removed stays, and all else goes.
func TestRemoveAllBusy(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	fill(t, top, 2*patience)
	busy := filepath.Join(top, "busy")
	if err := os.Mkdir(busy, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", busy, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting: %v", err)
	}
	defer func() { _ = unix.Unmount(busy, 0) }()
	if err := RemoveAll(t.Context(), top); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(top)
	if err != nil || len(left) != 1 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}
