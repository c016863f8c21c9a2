package fileop

import (
	"context"
	"os"
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

// applyToStore applies actions, one after another, and returns the chain that
// they yield.
func applyToStore(t *testing.T, s *store.Store, ins []Input, actions ...parser.FileAction) layers.Chain {
	t.Helper()
	ctx := context.Background()
	actions[len(actions)-1].Output = 0
	var w *store.Writer
	outs, err := Apply(ctx, parser.FileOp{Actions: actions}, ins, "", func(int) (Writer, error) {
		var err error
		w, err = s.NewWriter(ctx, store.Forms{Blob: true}, archive.Compression{})
		return w, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if w == nil {
		return outs[0].Chain
	}
	l, err := w.Commit(time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return outs[0].Chain.Append(l)
}

// TestStore copies from a directory into layers, and from these into others, and
// twice makes the same.
func TestStore(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making files of other owners needs root")
	}
	defer unix.Umask(unix.Umask(0))
	ctx := context.Background()
	dir := t.TempDir()
	build(t, dir, "d/a text\nd/b hard:d/a\nd/l link:a\nd/sub/x text2 mode=4755 cap=1")
	touch(t, dir)
	var last string
	for range 2 {
		s, err := store.Open(t.TempDir(), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		open := func(c layers.Chain) Input {
			f, err := source.OpenChain(ctx, s, c)
			if err != nil {
				t.Fatal(err)
			}
			return Input{FS: f, Chain: c, Kept: true}
		}
		chowned := dockerCopy("d", "/app/")
		chowned.Owner = num(7, 8)
		one := applyToStore(t, s, []Input{{FS: disk(dir)}},
			parser.FileAction{Input: -1, Secondary: 0, Output: -1, Action: chowned})
		// Nothing new: no layer.
		if same := applyToStore(t, s, []Input{open(one)}, parser.FileAction{Input: 0, Secondary: -1, Action: parser.Mkdir{Path: "/app", Mode: 0o755, MakeParents: true}}); len(same) != 1 {
			t.Errorf("a directory that is there makes a layer")
		}
		two := applyToStore(t, s, []Input{open(one)},
			parser.FileAction{Input: 0, Secondary: -1, Output: -1, Action: parser.Remove{Path: "/app/a"}},
			parser.FileAction{Input: 1, Secondary: 0, Output: -1, Action: dockerCopy("app", "/copy")})
		v, err := s.View(ctx, two)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(describe(v, false), "\n")
		want := `app kind=1 mode=0755 owner=7:8
app/b kind=0 mode=0644 owner=7:8 982d9e3e first=app/b
app/l kind=2 owner=7:8 -> a
app/sub kind=1 mode=0755 owner=7:8
app/sub/x kind=0 mode=4755 owner=7:8 fd848ca3 first=app/sub/x CAP
copy kind=1 mode=0755 owner=0:0
copy/a kind=0 mode=0644 owner=7:8 982d9e3e first=copy/a
copy/b kind=0 mode=0644 owner=7:8 982d9e3e first=copy/a
copy/l kind=2 owner=7:8 -> a
copy/sub kind=1 mode=0755 owner=7:8
copy/sub/x kind=0 mode=4755 owner=7:8 fd848ca3 first=copy/sub/x CAP`
		want = strings.ReplaceAll(want, "CAP", `cap="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"`)
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		ids := string(two[0].DiffID + two[1].DiffID)
		if last != "" && ids != last {
			t.Error("the same input makes other layers")
		}
		last = ids
	}
}
