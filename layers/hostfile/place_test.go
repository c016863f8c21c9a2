package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFindFollowsOwnLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{
		"relative": "below/file", "absolute": filepath.Join(dir, "below", "file"), "twice": "relative",
		"below/up": "../relative", "loop": "loop", "nowhere": "missing/file",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.Stat(filepath.Join(dir, "below"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"relative", "absolute", "twice", "below/up", "below/file"} {
		p, err := Find(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := p.Dir.Stat(); err != nil || !os.SameFile(got, want) || p.Name != "file" {
			t.Errorf("%s: got %s in %v, %v", name, p.Name, p.Dir.Name(), err)
		}
		p.Close()
	}
	if _, err := Find(filepath.Join(dir, "loop")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("loop: got %v", err)
	}
	if _, err := Find(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nowhere: got %v", err)
	}
}

// TestFindRefusesForeignLinks is the kernel's rule for symlinks and pipes in sticky
// directories, in each of its cases.
func TestFindRefusesForeignLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of other users")
	}
	const other, nobody = stranger + 1, overflowID
	for _, c := range []struct {
		name         string
		mode         fs.FileMode
		owner, links int
		refused      bool
	}{
		{"of another user", 0o777 | fs.ModeSticky, 0, stranger, true},
		{"of another user in a third one's directory", 0o777 | fs.ModeSticky, other, stranger, true},
		{"of the directory's owner", 0o777 | fs.ModeSticky, stranger, stranger, false},
		{"our own", 0o777 | fs.ModeSticky, stranger, 0, false},
		{"owners that cannot be told apart", 0o777 | fs.ModeSticky, nobody, nobody, true},
		{"in a directory of a group", 0o775 | fs.ModeSticky, 0, stranger, false},
		{"in a directory that is not sticky", 0o777, 0, stranger, false},
	} {
		for _, kind := range []string{"link", "pipe"} {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			if kind == "link" {
				if err := os.Symlink(filepath.Join(t.TempDir(), "victim"), path); err != nil {
					t.Fatal(err)
				}
			} else {
				pipe(t, path)
			}
			if err := errors.Join(os.Lchown(path, c.links, 0), os.Chown(dir, c.owner, 0), os.Chmod(dir, c.mode)); err != nil {
				t.Fatal(err)
			}
			var foreign *ForeignError
			if err := Check(path + "/"); errors.As(err, &foreign) != c.refused {
				t.Errorf("%s %s, as a directory: got %v", kind, c.name, err)
			}
			if err := Check(path); errors.As(err, &foreign) != c.refused || !c.refused && err != nil {
				t.Errorf("%s %s: got %v", kind, c.name, err)
			}
		}
	}
}
