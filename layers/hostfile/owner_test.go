package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of other users")
	}
	for _, c := range []struct {
		name        string
		owner       int
		mode        fs.FileMode
		prepare     func(dir string) error
		rootUnknown bool
		refused     bool
	}{
		{name: "our own", mode: 0o700},
		{name: "our own, of a group", mode: 0o775},
		{name: "another user's", owner: stranger, mode: 0o700, refused: true},
		{name: "another user's that everybody may use", owner: stranger, mode: 0o777 | fs.ModeSticky, refused: true},
		{name: "nobody's", owner: overflowID, mode: 0o777 | fs.ModeSticky, refused: true},
		{name: "root's as a user namespace shows it", owner: overflowID, mode: 0o777 | fs.ModeSticky, rootUnknown: true},
		{name: "everybody may replace its entries", mode: 0o777, refused: true},
		{name: "as /tmp is", mode: 0o777 | fs.ModeSticky},
		{name: "another user's entry", mode: 0o700, refused: true, prepare: func(dir string) error {
			return os.Lchown(filepath.Join(dir, "layers"), stranger, 0)
		}},
		{name: "another user's symlink", mode: 0o700, refused: true, prepare: func(dir string) error {
			path := filepath.Join(dir, "blobs")
			return errors.Join(os.Symlink("layers", path), os.Lchown(path, stranger, 0))
		}},
		{name: "our symlink to another user's", mode: 0o700, refused: true, prepare: func(dir string) error {
			path := filepath.Join(dir, "other")
			return errors.Join(os.Mkdir(path, 0o755), os.Chown(path, stranger, 0), os.Symlink("other", filepath.Join(dir, "blobs")))
		}},
		{name: "our symlink", mode: 0o700, prepare: func(dir string) error {
			return os.Symlink("layers", filepath.Join(dir, "blobs"))
		}},
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "layers"), 0o700); err != nil {
			t.Fatal(err)
		}
		if c.prepare != nil {
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Chown(dir, c.owner, 0), os.Chmod(dir, c.mode)); err != nil {
			t.Fatal(err)
		}
		var owner *OwnerError
		err := CheckOwner(dir, []string{"layers", "blobs"}, c.rootUnknown)
		if errors.As(err, &owner) != c.refused || !c.refused && err != nil || c.refused && owner.Hint == "" {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	if err := CheckOwner(filepath.Join(t.TempDir(), "missing"), []string{"layers"}, false); err != nil {
		t.Errorf("missing: got %v", err)
	}
}

// TestCheckOwnerOfVolume: a volume of Kubernetes is root's and everybody may write
// to it; what we have in it is ours.
func TestCheckOwnerOfVolume(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "mode=0777"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	layers := filepath.Join(dir, "layers")
	if err := os.Mkdir(layers, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := CheckOwner(dir, []string{"layers"}, false); err != nil {
		t.Errorf("ours: got %v", err)
	}
	if err := os.Chown(layers, stranger, stranger); err != nil {
		t.Fatal(err)
	}
	var owner *OwnerError
	if err := CheckOwner(dir, []string{"layers"}, false); !errors.As(err, &owner) {
		t.Errorf("another user's: got %v", err)
	}
}

func TestOwnerHint(t *testing.T) {
	for _, c := range []struct {
		owner    uint32
		user     int
		writable bool
		want     string
	}{
		{overflowID, 1000, true, "does not show who owns its files"},
		{overflowID, 0, true, "does not show who owns its files"},
		{1000, 0, true, "without sudo"},
		{1001, 1000, true, "SINTER_ROOT=/dir/sinter"},
		{1001, 1000, false, "chown"},
	} {
		got := ownerHint("/dir", c.owner, c.user, c.writable)
		if !strings.Contains(got, c.want) || c.user == 0 && strings.Contains(got, "chown") {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}
