package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// copyStore copies a store with everything that cp can keep.
func copyStore(t *testing.T, root string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", root, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return to
}

// A directory in a copy of a store is not the one that was made; it is made again
// where that can be, and otherwise nothing is there.
func TestCopiedDirDoesNotCount(t *testing.T) {
	for name, c := range map[string]struct {
		forms Forms
		left  bool
	}{
		"with a blob": {Forms{Blob: true, Dir: true}, true},
		"with a tar":  {Forms{Tar: true, Dir: true}, true},
		"alone":       {Forms{Dir: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			first := open(t, root, Options{})
			l := write(t, first, c.forms)
			if err := first.Usable(l); err != nil {
				t.Errorf("where it was made: %v", err)
			}
			s := open(t, copyStore(t, root), Options{})
			old := s.layerPath(l.ID, dirName)
			if _, err := os.Stat(old); err != nil {
				t.Fatal(err)
			}
			if made, err := s.isMade(old); err != nil || made {
				t.Errorf("the copied directory counts: %v, %v", made, err)
			}
			problems, err := s.Verify(ctx)
			if err != nil || len(problems) != 1 || problems[0].Form != dirName || problems[0].Lost == c.left {
				t.Errorf("Verify: %+v, %v", problems, err)
			}
			if err := s.Usable(l); (err == nil) != c.left || err != nil && !errors.Is(err, ErrNoForm) {
				t.Errorf("usable: %v", err)
			}
			dir, err := s.Dir(ctx, layers.Chain{l})
			if (err == nil) != c.left {
				t.Fatalf("Dir: %q, %v", dir, err)
			}
			if c.left {
				check(t, s, l)
				return
			}
			if left, err := s.Repair(ctx, problems); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
			if problems, err := s.Verify(ctx); err != nil || len(problems) != 0 {
				t.Errorf("after the repair: %+v, %v", problems, err)
			}
		})
	}
}

// What is changed in a directory shows: to whoever reads a file, to CheckDirs in
// another process, and to Verify. It is then made again of another form.
func TestChangedDir(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"longer": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "dir/file"), []byte("hello, all"), 0o644)
		},
		"removed": func(dir string) error { return os.Remove(filepath.Join(dir, "dir/file")) },
		"a directory": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "dir/file")), os.Mkdir(filepath.Join(dir, "dir/file"), 0o755))
		},
		"other bytes": func(dir string) error {
			file := filepath.Join(dir, "dir/file")
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond) // the clock of file times is coarse
			return errors.Join(os.WriteFile(file, []byte("jello"), 0o644), os.Chtimes(file, info.ModTime(), info.ModTime()))
		},
		"a symlink": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "dir/file")), os.Symlink("large", filepath.Join(dir, "dir/file")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			l := write(t, open(t, root, Options{}), Forms{Dir: true})
			s := open(t, root, Options{})
			dir, err := s.Dir(ctx, layers.Chain{l})
			if err != nil {
				t.Fatal(err)
			}
			if err := checkDirs(s, dir); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if problems, err := s.Verify(ctx); err != nil || len(problems) != 1 || !problems[0].Lost {
				t.Errorf("Verify: %+v, %v", problems, err)
			}
			other := open(t, root, Options{})
			if err := checkDirs(other, dir); !errors.Is(err, ErrChanged) {
				t.Errorf("Check: %v", err)
			}
			if err := other.Usable(l); !errors.Is(err, ErrNoForm) {
				t.Errorf("usable afterwards: %v", err)
			}
		})
		t.Run(name+", read", func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			l := write(t, s, Forms{Dir: true})
			tree, err := s.Tree(ctx, l)
			if err != nil {
				t.Fatal(err)
			}
			i, _ := tree.Find("dir/file")
			if err := change(s.layerPath(l.ID, dirName)); err != nil {
				t.Fatal(err)
			}
			e := tree.Entries[i]
			e.Place = 0 // as of a directory that a command left
			if _, err := s.OpenFile(ctx, l, e); !errors.Is(err, ErrChanged) {
				t.Errorf("reading the file: %v", err)
			}
			if _, ok, err := s.dirOf(l.ID); err != nil || ok {
				t.Errorf("the directory still counts: %v, %v", ok, err)
			}
		})
	}
}

// A layer whose tar is gone is made again of its blob, or is an error: nobody waits
// for a lock that he holds himself.
func TestTarIsGone(t *testing.T) {
	root := t.TempDir()
	l := write(t, open(t, root, Options{}), Forms{Tar: true})
	s := open(t, root, Options{})
	if err := os.Remove(s.layerPath(l.ID, tarName)); err != nil {
		t.Fatal(err)
	}
	if err := s.Usable(l); !errors.Is(err, ErrNoForm) {
		t.Errorf("usable: %v", err)
	}
	if dir, err := s.Dir(ctx, layers.Chain{l}); err == nil {
		t.Errorf("Dir: %s", dir)
	}
}

// The same of a layer that was pulled.
func TestPulledTarIsGone(t *testing.T) {
	l, blob := pulled(t)
	root := t.TempDir()
	opt := Options{Fetch: func(context.Context, layers.Layer) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}}
	first := open(t, root, opt)
	if err := first.AddRemote(ctx, l); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Tree(ctx, l); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(first.layerPath(l.ID, tarName)); err != nil {
		t.Fatal(err)
	}
	s := open(t, root, opt)
	if _, err := s.Dir(ctx, layers.Chain{l}); err != nil {
		t.Fatal(err)
	}
	check(t, s, l)
}

// What touched one directory has touched others: all of them are found at once.
func TestDistrustChanged(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, Options{})
	if os.Geteuid() != 0 {
		t.Skip("owners look different outside of a user namespace")
	}
	touched := write(t, s, Forms{Dir: true})
	w, err := s.NewWriter(ctx, Forms{Dir: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Add(layers.Entry{Path: "other", Kind: layers.Dir, Mode: 0o755}, nil); err != nil {
		t.Fatal(err)
	}
	whole, err := w.Commit(made)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.layerPath(touched.ID, dirName), "dir/file")
	if err := os.Link(file, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	s = open(t, root, Options{})
	if err := s.DistrustChanged(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Usable(touched); !errors.Is(err, ErrNoForm) {
		t.Errorf("the changed one: %v", err)
	}
	if err := s.Usable(whole); err != nil {
		t.Errorf("the other: %v", err)
	}
}

func checkDirs(s *Store, dirs ...string) error {
	w, err := s.Watch(dirs)
	if err != nil {
		return err
	}
	return errors.Join(w.Check(ctx), w.Still())
}

// A directory that does not count any more is replaced, but not removed from under
// those who have it mounted; these learn of it in the end.
func TestReplacedWhileInUse(t *testing.T) {
	root := t.TempDir()
	l := writeAndClose(t, root, Forms{Tar: true, Dir: true})
	other := open(t, root, Options{})
	user, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := user.Dir(ctx, layers.Chain{l})
	if err != nil {
		t.Fatal(err)
	}
	w, err := user.Watch([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if again, err := other.Dir(ctx, layers.Chain{l}); err != nil || again != dir {
		t.Fatalf("made again: %s, %v", again, err)
	}
	if names, err := f.Readdirnames(-1); err != nil || len(names) != 2 {
		t.Errorf("who had it open sees %v, %v", names, err)
	}
	if err := w.Still(); !errors.Is(err, ErrChanged) {
		t.Errorf("who had it in use is told %v", err)
	}
	if made, err := other.isMade(dir); err != nil || !made {
		t.Errorf("the new one does not count any more: %v, %v", made, err)
	}
	for _, want := range []int{1, 0} { // while the first may use it, and then
		x, err := other.Exclude(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(x.RemoveReplaced(), x.Release()); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Join(root, setAsideName)); err != nil || len(left) != want {
			t.Errorf("left: %v, %v", left, err)
		}
		if want == 1 {
			if err := user.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// writeAndClose makes the test layer as a process does that has ended.
func writeAndClose(t *testing.T, root string, forms Forms) layers.Layer {
	t.Helper()
	s, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := write(t, s, forms)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return l
}

// What cannot be read just now is neither made again nor reported, let alone removed.
func TestUnreadableMark(t *testing.T) {
	root := t.TempDir()
	s := open(t, root, Options{})
	l := write(t, s, Forms{Tar: true, Dir: true})
	mark := s.layerPath(l.ID, dirName) + madeSuffix
	if err := errors.Join(os.Rename(mark, mark+"2"), os.Symlink(filepath.Base(mark), mark)); err != nil {
		t.Fatal(err)
	}
	s = open(t, root, Options{})
	// A loop of symlinks stands for any error of a disk.
	if dir, err := s.Dir(ctx, layers.Chain{l}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("Dir: %s, %v", dir, err)
	}
}
