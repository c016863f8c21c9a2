package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// writeFile writes a layer of one file, which holds its name.
func writeFile(t *testing.T, s *Store, name string) layers.Layer {
	t.Helper()
	w, err := s.NewWriter(ctx, Forms{Tar: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	e := layers.Entry{Path: name, Kind: layers.File, Size: int64(len(name))}
	if err := w.Add(e, strings.NewReader(name)); err != nil {
		t.Fatal(err)
	}
	l, err := w.Commit(made)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestViewStandsOnKnown: the view of a chain stands on that of its lower layers, whichever
// of them were asked for, and on none that has a tree which was replaced.
func TestViewStandsOnKnown(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	view := func(c layers.Chain, want ...string) *layers.View {
		t.Helper()
		v, err := s.View(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range v.ReadDir("") {
			got = append(got, n.Path)
		}
		if g, w := strings.Join(got, " "), strings.Join(want, " "); g != w {
			t.Errorf("the view of %d layers has %q, want %q", len(c), g, w)
		}
		return v
	}
	base := layers.Chain{}.Append(writeFile(t, s, "base"))
	a := base.Append(writeFile(t, s, "a"))
	b := base.Append(writeFile(t, s, "b"))
	ab := a.Append(b[1])
	view(layers.Chain{})
	view(base, "base")
	first := view(a, "a", "base")
	view(b, "b", "base")
	view(ab, "a", "b", "base")
	view(b.Append(a[1]), "a", "b", "base")
	view(layers.Chain{a[1]}, "a")
	if view(a, "a", "base") != first {
		t.Error("a known view is made again")
	}
	for i := range maxViews {
		name := fmt.Sprint("c", i)
		view(layers.Chain{a[1]}.Append(writeFile(t, s, name)), "a", name)
	}
	if n := len(s.views.list); n > maxViews {
		t.Errorf("%d views are kept", n)
	}
	first = view(a, "a", "base")
	for range maxViews {
		view(layers.Chain{})
	}
	if view(a, "a", "base") != first {
		t.Error("views of nothing displace others")
	}
	lower := view(base, "base")
	s.forget(a[1].ID)
	if view(a, "a", "base") == first {
		t.Error("a view has a tree that was forgotten")
	}
	if view(base, "base") != lower {
		t.Error("a view of other layers is made again")
	}
}

// TestViewOfPackedLayer: once a layer is packed, its view has the digests and offsets
// that the files have in the blob.
func TestViewOfPackedLayer(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	upper := filepath.Join(t.TempDir(), "upper")
	if err := os.Mkdir(upper, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(upper, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, _, err := s.CommitUpper(ctx, upper, nil, nil, made)
	if err != nil {
		t.Fatal(err)
	}
	packed := func() bool {
		v, err := s.View(ctx, layers.Chain{l})
		if err != nil {
			t.Fatal(err)
		}
		e, _, ok := v.Lookup("file")
		return ok && e.Sum.Known() && e.Place > 0
	}
	if packed() {
		t.Error("the file is in a blob before there is one")
	}
	if _, err := s.Pack(ctx, l, archive.Compression{}); err != nil {
		t.Fatal(err)
	}
	if !packed() {
		t.Error("the view is that of the layer before it was packed")
	}
}

// TestTreeIsReadOnce: all who read the tree of a layer at the same time get one tree,
// and no view is made again because of them.
func TestTreeIsReadOnce(t *testing.T) {
	root := t.TempDir()
	w, err := open(t, root, Options{}).NewWriter(ctx, Forms{Tar: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20_000 { // reading it takes a while
		if err := w.Add(layers.Entry{Path: fmt.Sprintf("%06d", i), Kind: layers.Dir}, nil); err != nil {
			t.Fatal(err)
		}
	}
	l, err := w.Commit(made)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, root, Options{})
	var trees [8]*layers.Tree
	var group sync.WaitGroup
	for i := range trees {
		group.Go(func() { trees[i], _ = s.Tree(ctx, l) })
	}
	group.Wait()
	for i, tree := range trees {
		if tree == nil || tree != trees[0] {
			t.Errorf("reader %d has another tree", i)
		}
	}
	if s.views.changes != 0 {
		t.Errorf("trees were replaced %d times", s.views.changes)
	}
}
