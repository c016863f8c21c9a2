package fileop

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// counting notes which files are opened.
type counting struct {
	source.FS
	opened *[]string
}

func (c counting) Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error) {
	*c.opened = append(*c.opened, e.Path)
	return c.FS.Open(ctx, e)
}

// whole is a copy of all of a directory.
var whole = parser.Copy{Src: "/", Dest: "/", FollowSymlinks: true, CreateDestPath: true, DirContents: true}

// shows describes what a chain looks like.
func shows(t *testing.T, s *store.Store, c layers.Chain) string {
	t.Helper()
	view, err := s.View(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = view.Walk(func(e layers.Entry, _ int) error {
		if e.Path != "" {
			fmt.Fprintf(&b, "%s %d %o %d:%d %d %d %s %s\n", e.Path, e.Kind, e.Mode, e.UID, e.GID, e.Size, e.ModTime, e.Target, e.Sum)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestDifferences changes a directory and compares the copy of what has changed with
// a copy of all.
func TestDifferences(t *testing.T) {
	// Enough that the changes are a small part.
	filler := ""
	for i := range 40 {
		filler += fmt.Sprintf("\nfill/%d text", i)
	}
	for _, tt := range []struct {
		name, before, after string
		// opened are the files that are read; "-" says that all is copied.
		opened string
		// written are the paths in the layer.
		written string
	}{
		{"nothing", "a/f text", "a/f text", "", ""},
		{"content", "a/f text\na/g text", "a/f other\na/g text", "a/f", "a a/f"},
		{"content of the same size and time", "a/f text", "a/f twin", "a/f", "a a/f"},
		{"time", "f text", "f text time=5", "f", "f"},
		{"mode", "f text", "f text mode=0755", "f", "f"},
		{"mode of a directory", "a/b/f text", "a dir mode=0700\na/b/f text", "", "a"},
		{"new", "a/f text", "a/f text\na/b/c/f text", "a/b/c/f", "a a/b a/b/c a/b/c/f"},
		{"gone", "a/b/f text\na/b/g text", "a/b/f text", "", "a a/b -a/b/g"},
		{"gone with all below", "a/b/f text\na/b/c/g text\na/x text", "a/x text", "", "a -a/b"},
		{"all gone", "f text", "", "", "-f"},
		{"a name that begins alike", "a/f text\na.b/f text\nab/f text", "ab/f text", "", "-a -a.b"},
		{"file to directory", "f text", "f/g text", "f/g", "f f/g"},
		{"directory to file", "d/e/g text\nd2 text", "d text\nd2 text", "d", "d"},
		{"symlink", "l link:a\nm link:a", "l link:b\nm link:a", "", "l"},
		{"file to symlink", "f text", "f link:a", "", "f"},
		{"names of one file", "f text", "f text\ng hard:f", "-", ""},
		{"no names of one file any more", "f text\ng hard:f", "f text\ng text", "-", ""},
		{"much", "f text", "f text" + strings.ReplaceAll(filler, "fill", "new"), "-", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := store.Open(t.TempDir(), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			dir := func(spec string) Input {
				d := t.TempDir()
				build(t, d, spec+filler)
				settle(t, d)
				return Input{FS: buildContext(t, d, parser.Local{})}
			}
			copyAll := parser.FileAction{Input: -1, Secondary: 0, Action: whole}
			base := applyToStore(t, s, []Input{dir(tt.before)}, copyAll)
			to := dir(tt.after)
			want := shows(t, s, applyToStore(t, s, []Input{to}, copyAll))
			checkDifferences(t, s, base, to, want, tt.opened, tt.written)
		})
	}
}

// settle replaces the times that making files leaves in dir.
func settle(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.ModTime().Unix() <= 1_000_000_000 {
			return err
		}
		when := []unix.Timespec{{Sec: 1_000_000_000}, {Sec: 1_000_000_000}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, when, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkDifferences(t *testing.T, s *store.Store, base layers.Chain, to Input, want, opened, written string) {
	t.Helper()
	ctx := context.Background()
	var read []string
	to.FS = counting{to.FS, &read}
	view, err := s.View(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	var w *store.Writer
	_, ok, err := Differences(ctx, to, whole, view, func() (Writer, error) {
		w, err = s.NewWriter(ctx, store.Forms{Tar: true}, archive.Compression{})
		return w, err
	})
	if err != nil || ok == (opened == "-") {
		t.Fatalf("%v, %v", ok, err)
	}
	if !ok {
		if w != nil || len(read) > 0 {
			t.Errorf("something was done: %s", read)
		}
		return
	}
	paths := []string{}
	if w != nil {
		l, err := w.Commit(time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		base = base.Append(l)
		tree, err := s.Tree(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range tree.Entries {
			paths = append(paths, map[bool]string{true: "-"}[e.Kind == layers.Whiteout]+e.Path)
		}
	}
	if got := shows(t, s, base); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !slices.Equal(read, strings.Fields(opened)) || !slices.Equal(paths, strings.Fields(written)) {
		t.Errorf("read %s, want %s; wrote %s, want %s", read, opened, paths, written)
	}
}
