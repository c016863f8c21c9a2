package layers

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// TestSquash compares, for many random layers, what is seen with them and with
// the one that stands for them.
func TestSquash(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var trees []*Tree
		for range 1 + r.IntN(4) {
			trees = append(trees, randomTree(r))
		}
		base := r.IntN(len(trees) + 1)
		squashed := &Tree{}
		for _, n := range Squash(trees, base) {
			squashed.Entries = append(squashed.Entries, n.Entry)
		}
		if err := squashed.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want := seen(NewView(trees))
		got := seen(NewView(append(slices.Clone(trees[:base]), squashed)))
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d, base %d:\ngot  %v\nwant %v\nlayers %v", seed, base, got, want, trees)
		}
	}
}

func TestSquashHardlinks(t *testing.T) {
	file := func(p string) Entry { return Entry{Path: p, Kind: File, Size: 1} }
	trees := []*Tree{
		{Entries: []Entry{file("base")}},
		{Entries: []Entry{file("a"), {Path: "b", Kind: Hardlink, Link: "a"}, {Path: "c", Kind: Hardlink, Link: "a"},
			{Path: "p1", Kind: Fifo}, {Path: "p2", Kind: Hardlink, Link: "p1"}, {Path: "s1", Kind: Symlink, Target: "x"}, {Path: "s2", Kind: Hardlink, Link: "s1"}}},
		{Entries: []Entry{{Path: "a", Kind: Whiteout}, {Path: "base", Kind: Whiteout}}},
	}
	var got []string
	for _, n := range Squash(trees, 1) {
		got = append(got, fmt.Sprintf("%s %d %s %d", n.Path, n.Kind, n.Target+n.Link, n.Layer))
	}
	want := []string{
		fmt.Sprintf("b %d  1", File), fmt.Sprintf("base %d  -1", Whiteout), fmt.Sprintf("c %d b 1", Hardlink),
		fmt.Sprintf("p1 %d  1", Fifo), fmt.Sprintf("p2 %d p1 1", Hardlink), fmt.Sprintf("s1 %d x 1", Symlink), fmt.Sprintf("s2 %d x 1", Symlink),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// randomTree has few names, so that layers meet.
func randomTree(r *rand.Rand) *Tree {
	t := &Tree{}
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		for _, name := range []string{"a", "b", "c"} {
			p := Child(dir, name)
			switch n := r.IntN(8); {
			case n == 0:
				t.Entries = append(t.Entries, Entry{Path: p, Kind: Whiteout})
			case n == 1:
				t.Entries = append(t.Entries, Entry{Path: p, Kind: File, Size: r.Int64N(100), Mode: 0o644})
			case n == 2:
				t.Entries = append(t.Entries, Entry{Path: p, Kind: Symlink, Target: fmt.Sprint(r.IntN(9))})
			case n < 5 && depth < 3:
				t.Entries = append(t.Entries, Entry{Path: p, Kind: Dir, Mode: uint32(r.IntN(0o7777)), UID: r.IntN(3), GID: r.IntN(3), Opaque: r.IntN(3) == 0})
				fill(p, depth+1)
			case n == 5 && depth < 3:
				if r.IntN(2) == 0 { // else it is not listed itself
					t.Entries = append(t.Entries, Entry{Path: p, Kind: Dir, Implied: true, Opaque: r.IntN(2) == 0, GID: r.IntN(3)})
				}
				fill(p, depth+1)
			}
		}
	}
	fill("", 0)
	return t
}

func seen(v *View) []string {
	var list []string
	_ = v.Walk(func(e Entry, _ int) error {
		list = append(list, fmt.Sprint(e.Path, " ", e.Kind, " ", e.Mode, " ", e.UID, ":", e.GID, " ", e.Size, " ", e.Target))
		return nil
	})
	return list
}
