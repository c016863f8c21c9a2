package layers

import (
	"slices"
)

// Squash returns the entries of the one layer that changes the root file system
// of the trees below base into that of all trees, the lowest first. Files with
// several names are joined again: the first is the file, the others are
// hardlinks to it. The entries are in the order of ComparePaths; Layer says
// whose content a file has, and is -1 for a whiteout.
func Squash(trees []*Tree, base int) []Named {
	all, below := NewView(trees), NewView(trees[:base])
	var out []Named
	// No callback fails, so neither does Walk.
	_ = all.Walk(func(e Entry, layer int) error {
		if layer >= base && e.Path != "" {
			e.Opaque = false
			out = append(out, Named{e, layer})
		}
		return nil
	})
	_ = below.Walk(func(e Entry, _ int) error {
		if e.Path == "" {
			return nil
		}
		if _, _, there := all.Lookup(e.Path); there {
			return nil
		}
		// What is below something else that went needs no mention.
		if parent, _, there := all.Lookup(Parent(e.Path)); there && parent.Kind == Dir {
			out = append(out, Named{Entry{Path: e.Path, Kind: Whiteout}, -1})
		}
		return nil
	})
	slices.SortFunc(out, func(a, b Named) int { return ComparePaths(a.Path, b.Path) })
	names := Names{}
	for i := range out {
		names.Join(&out[i].Entry)
	}
	return out
}
