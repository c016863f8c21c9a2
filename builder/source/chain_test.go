package source

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
)

// put writes a layer into a store; content is by path.
func put(t *testing.T, s *store.Store, content map[string]string, entries ...layers.Entry) layers.Layer {
	t.Helper()
	w, err := s.NewWriter(context.Background(), store.Forms{Blob: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, e := range entries {
		e.Size = int64(len(content[e.Path]))
		if e.Mode == 0 {
			e.Mode = 0o644
		}
		if err := w.Add(e, strings.NewReader(content[e.Path])); err != nil {
			t.Fatal(err)
		}
	}
	l, err := w.Commit(time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestChain(t *testing.T) {
	ctx := context.Background()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	low := put(t, s, map[string]string{"a": "old", "d/f": "file", "gone": "x"},
		layers.Entry{Path: "a"}, layers.Entry{Path: "b", Kind: layers.Hardlink, Link: "a"},
		layers.Entry{Path: "c", Kind: layers.Hardlink, Link: "a"},
		layers.Entry{Path: "d", Kind: layers.Dir, Mode: 0o700, UID: 3, GID: 4},
		layers.Entry{Path: "d/f", UID: 5}, layers.Entry{Path: "d/g", Kind: layers.Hardlink, Link: "d/f"},
		layers.Entry{Path: "gone"}, layers.Entry{Path: "l", Kind: layers.Symlink, Target: "/d"})
	high := put(t, s, map[string]string{"a": "new"},
		layers.Entry{Path: "a"}, layers.Entry{Path: "gone", Kind: layers.Whiteout})
	f, err := OpenChain(ctx, s, layers.Chain{low, high})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"a": "new", "b": "old", "c": "old", "d/f": "file", "d/g": "file"} {
		e, ok, err := f.Lookup(path)
		if err != nil || !ok || e.Kind != layers.File {
			t.Fatalf("%s: %+v %v %v", path, e, ok, err)
		}
		r, err := f.Open(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if cerr := r.Close(); err != nil || cerr != nil || string(got) != want {
			t.Errorf("%s: %q %v %v", path, got, err, cerr)
		}
		for _, known := range []layers.Sum{e.Sum, {}} {
			e.Sum = known
			if d, err := f.Digest(ctx, e); err != nil || d != digest.FromString(want) {
				t.Errorf("%s: digest %s, %v", path, d, err)
			}
		}
	}
	files := map[string]layers.Inode{}
	entries, err := f.ReadDir("")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Path)
		files[e.Path] = e.Inode
	}
	if got := strings.Join(names, " "); got != "a b c d l" {
		t.Errorf("the root holds %s", got)
	}
	// b and c are names of what a was, not of what a is.
	if files["b"] == files["a"] || files["b"] == files["l"] || files["b"] != files["c"] || files["a"] != 0 {
		t.Errorf("files are %v", files)
	}
	first, _, _ := f.Lookup("d/f")
	if e, _, _ := f.Lookup("d/g"); e.Inode != first.Inode || e.Inode == 0 || e.UID != 5 {
		t.Errorf("d/g is %+v", e)
	}
	if p, err := f.Resolve("l/f", true); err != nil || p != "d/f" {
		t.Errorf("l/f is %q, %v", p, err)
	}
	for _, path := range []string{"gone", "d", "nothing"} {
		if _, err := f.Open(ctx, layers.Entry{Path: path}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("opening %s: %v", path, err)
		}
		if _, err := f.Digest(ctx, layers.Entry{Path: path}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("digest of %s: %v", path, err)
		}
	}
}
