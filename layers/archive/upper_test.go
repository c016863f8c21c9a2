package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
)

// The changes that a command makes, as a real overlay records them.
func TestWalkUpperOverlay(t *testing.T) {
	needRoot(t)
	list, _ := ordered([]sample{
		dirEntry("d"), fileEntry("d/a", 0o644, []byte("a")), fileEntry("d/b", 0o644, []byte("b")),
		dirEntry("e"), fileEntry("e/x", 0o644, []byte("x")), dirEntry("e/sub"), fileEntry("e/sub/y", 0o644, []byte("y")),
		fileEntry("same", 0o644, []byte("same")), fileEntry("mode", 0o644, []byte("mode")), fileEntry("same-size", 0o644, []byte("1234")),
		fileEntry("link1", 0o644, []byte("l")), {layers.Entry{Path: "link2", Kind: layers.Hardlink, Link: "link1"}, nil},
		{layers.Entry{Path: "sym", Kind: layers.Symlink, Target: "d"}, nil}, dirEntry("touched"), dirEntry("replaced"), fileEntry("replaced/z", 0o644, nil),
	})
	kept := time.Unix(1700000000, 0)
	tests := []struct {
		name   string
		change func(root string) error
		want   string
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"new file", func(r string) error { return os.WriteFile(r+"/d/new", nil, 0o644) }, "d:1 d/new:0"},
		{"new directory is not opaque", func(r string) error { return os.Mkdir(r+"/d/new", 0o755) }, "d:1 d/new:1"},
		{"delete", func(r string) error { return os.Remove(r + "/d/a") }, "d:1 d/a:7"},
		{"delete a tree", func(r string) error { return os.RemoveAll(r + "/e") }, "e:7"},
		{"delete and make again", func(r string) error {
			return errors.Join(os.RemoveAll(r+"/e"), os.Mkdir(r+"/e", 0o755), os.WriteFile(r+"/e/x", []byte("x"), 0o644), os.Chtimes(r+"/e/x", kept, kept))
		}, "e:1! e/x:0"},
		{"directory becomes file", func(r string) error {
			return errors.Join(os.RemoveAll(r+"/replaced"), os.WriteFile(r+"/replaced", nil, 0o644))
		}, "replaced:0"},
		{"file becomes directory", func(r string) error {
			return errors.Join(os.Remove(r+"/same"), os.Mkdir(r+"/same", 0o755))
		}, "same:1"},
		{"copied up, unchanged", func(r string) error {
			return errors.Join(os.Chown(r+"/same", 0, 0), os.Chown(r+"/d", 0, 0), os.Lchown(r+"/sym", 0, 0))
		}, ""},
		{"made and deleted", func(r string) error {
			return errors.Join(os.WriteFile(r+"/touched/tmp", nil, 0o644), os.Remove(r+"/touched/tmp"))
		}, ""},
		{"mode", func(r string) error { return os.Chmod(r+"/mode", 0o600) }, "mode:0"},
		{"mode of a directory", func(r string) error { return os.Chmod(r+"/d", 0o700) }, "d:1"},
		{"owner", func(r string) error { return os.Lchown(r+"/sym", 5, 5) }, "sym:2>d"},
		{"time", func(r string) error { return os.Chtimes(r+"/same", kept, kept.Add(time.Second)) }, "same:0"},
		{"same size and time", func(r string) error {
			return errors.Join(os.WriteFile(r+"/same-size", []byte("4321"), 0o644), os.Chtimes(r+"/same-size", kept, kept))
		}, "same-size:0"},
		{"attribute", func(r string) error { return unix.Setxattr(r+"/same", "user.x", []byte("1"), 0) }, "same:0"},
		{"new name", func(r string) error { return os.Link(r+"/d/a", r+"/d/a2") }, "d:1 d/a:0 d/a2:3>d/a"},
		{"new names", func(r string) error {
			return errors.Join(os.WriteFile(r+"/d/n", []byte("n"), 0o644), os.Link(r+"/d/n", r+"/0"), os.Link(r+"/d/n", r+"/z"))
		}, "0:0 d:1 d/n:3>0 z:3>0"},
		{"new name of a symlink", func(r string) error { return os.Link(r+"/sym", r+"/sym2") }, "sym:2>d sym2:3>sym"},
		{"names that are not files", func(r string) error {
			return errors.Join(unix.Mkfifo(r+"/p", 0o600), os.Link(r+"/p", r+"/p2"), os.Symlink("x", r+"/s"), os.Link(r+"/s", r+"/s2"))
		}, "p:6 p2:3>p s:2>x s2:3>s"},
		{"rename", func(r string) error { return os.Rename(r+"/d/a", r+"/d/c") }, "d:1 d/a:7 d/c:0"},
		{"socket and fifo", func(r string) error {
			l, err := net.Listen("unix", r+"/socket")
			if err != nil {
				return err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			return errors.Join(l.Close(), unix.Mkfifo(r+"/fifo", 0o600), unix.Mknod(r+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		}, "fifo:6 null:4"},
		{"odd name", func(r string) error { return os.WriteFile(r+"/\xff", nil, 0o644) }, "\xff:0"},
	}
	for _, userXattr := range []bool{false, true} {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				lower, tree := unpack(t, list, UnpackOptions{UserXattr: userXattr})
				base := t.TempDir()
				for _, d := range []string{"upper", "work", "merged"} {
					if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				options := "redirect_dir=off,metacopy=off,index=off,lowerdir=" + lower + ",upperdir=" + base + "/upper,workdir=" + base + "/work"
				if userXattr {
					options += ",userxattr"
				}
				merged := base + "/merged"
				if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
					t.Skipf("no overlay here: %v", err)
				}
				if err := errors.Join(test.change(merged), unix.Unmount(merged, 0)); err != nil {
					t.Fatal(err)
				}
				open := func(_ int, e layers.Entry) (io.ReadCloser, error) { return os.Open(filepath.Join(lower, e.Path)) }
				got, err := WalkUpper(context.Background(), base+"/upper", layers.NewView([]*layers.Tree{tree}), open)
				if err != nil {
					t.Fatal(err)
				}
				if s := kinds(got); s != test.want {
					t.Errorf("got  %s\nwant %s", s, test.want)
				}
			})
		}
	}
}

// kinds is a tree, one word an entry.
func kinds(t *layers.Tree) string {
	var words []string
	for _, e := range t.Entries {
		words = append(words, describeTree(&layers.Tree{Entries: []layers.Entry{{Path: e.Path, Kind: e.Kind, Target: e.Target, Link: e.Link, Opaque: e.Opaque}}}, nil))
	}
	return strings.ReplaceAll(strings.Join(words, " "), "=", "")
}

func TestWalkUpperRefuses(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/d", 0o755), unix.Setxattr(dir+"/d", "user.overlay.redirect", []byte("/x"), 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := WalkUpper(context.Background(), dir, layers.NewView(nil), nil); err == nil || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("a redirected directory: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := WalkUpper(ctx, dir, layers.NewView(nil), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := WalkUpper(context.Background(), dir+"/no", layers.NewView(nil), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// Times that nanoseconds cannot tell are the nearest, not others.
func TestWalkUpperFarTimes(t *testing.T) {
	dir := t.TempDir()
	for name, seconds := range map[string]int64{"late": 1e10, "early": -1e10} {
		at := unix.Timespec{Sec: seconds, Nsec: 1}
		if err := errors.Join(os.Mkdir(dir+"/"+name, 0o755), unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/"+name, []unix.Timespec{at, at}, 0)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := WalkUpper(t.Context(), dir, layers.NewView(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range tree.Entries {
		// A file system may have limits of its own.
		var st unix.Stat_t
		if err := unix.Stat(dir+"/"+e.Path, &st); err != nil {
			t.Fatal(err)
		}
		if want := layers.UnixNano(time.Unix(st.Mtim.Unix())); e.ModTime != want || (e.ModTime > 0) != (e.Path == "late") {
			t.Errorf("%s: %d, want %d", e.Path, e.ModTime, want)
		}
	}
}

func TestIDMap(t *testing.T) {
	ranges := []idRange{{0, 1}, {1000, 10}}
	for id, want := range map[int]bool{0: true, 1: false, 999: false, 1000: true, 1009: true, 1010: false, -1: false} {
		if mapped(ranges, id) != want {
			t.Errorf("%d: %v", id, !want)
		}
	}
}

// TestRoomOfUpper: the tree of an upper directory takes little memory for each file.
func TestRoomOfUpper(t *testing.T) {
	const files, most = 4_000, 195
	dir := t.TempDir()
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("a-file-with-a-rather-long-name-%06d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	below := layers.NewView(nil)
	archivetest.CheckRoom(t, files, most, func() any {
		tree, err := WalkUpper(t.Context(), dir, below, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	})
}
