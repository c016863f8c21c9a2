package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Vectors of the sandbox's ADVISORIES.md that no other test tries.

// A layer cannot replace its own root: those above it would be unpacked to
// wherever a symlink leads.
func TestRootIsADirectory(t *testing.T) {
	for _, name := range []string{".", "/.", "a/..", "./.", "../."} {
		for kind, header := range map[string]tar.Header{
			"symlink": {Typeflag: tar.TypeSymlink, Linkname: "/"}, "fifo": {Typeflag: tar.TypeFifo},
			"device": {Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}, "hardlink": {Typeflag: tar.TypeLink, Linkname: "f"},
		} {
			header.Name = name
			_, _, _, err := Read(context.Background(), bytes.NewReader(foreign(t, tar.Header{Name: "f"}, tar.Header{Name: "a", Typeflag: tar.TypeDir, Mode: 0o755}, header)))
			if err == nil {
				t.Errorf("a %s named %q is accepted", kind, name)
			}
		}
	}
}

// The modes, owners and times of a layer's entries reach nothing outside of the
// directory, by whatever kinds of links.
func TestMetadataStaysInside(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"symlink", "hardlink", "twice", "directory"} {
		outside := t.TempDir()
		victim := filepath.Join(outside, "victim")
		if err := errors.Join(os.WriteFile(victim, []byte("v"), 0o600), os.Chmod(outside, 0o700)); err != nil {
			t.Fatal(err)
		}
		to := symlinkHeader("a", victim)
		to.Mode, to.Uid, to.Gid = 0o6777, 4321, 4321
		headers := map[string][]tar.Header{
			"symlink":  {to},
			"hardlink": {to, {Name: "b", Typeflag: tar.TypeLink, Linkname: "a", Mode: 0o6777, Uid: 4321}},
			"twice":    {to, to, {Name: "a", Mode: 0o6777, Uid: 4321, Linkname: "x"}, to},
			"directory": {
				{Name: "d", Typeflag: tar.TypeSymlink, Linkname: outside, Mode: 0o777, Uid: 4321},
				{Name: "d", Typeflag: tar.TypeDir, Mode: 0o6777, Uid: 4321}, {Name: "d/victim", Mode: 0o6777, Uid: 4321, Linkname: "x"},
			},
		}[name]
		data := foreign(t, headers...)
		tree, _, _, err := Read(context.Background(), bytes.NewReader(data))
		if err == nil {
			err = Unpack(context.Background(), tree, opener(t, data), t.TempDir(), UnpackOptions{})
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for path, want := range map[string]os.FileMode{victim: 0o600, outside: os.ModeDir | 0o700} {
			info, err := os.Stat(path)
			if err != nil || info.Mode() != want || ownerOf(t, path) != 0 {
				t.Errorf("%s: %s is now %v, %v", name, path, info.Mode(), err)
			}
		}
	}
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}
