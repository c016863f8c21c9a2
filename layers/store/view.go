package store

import (
	"context"
	"slices"

	"github.com/sinter-build/sinter/layers"
)

// maxViews is how many views are kept: one for each of the stages that are likely to
// grow at the same time.
const maxViews = 8

// views are the views that were asked for last.
type views struct {
	list []chainView // the last one first
	// changes counts how often a tree was replaced that a view may have.
	changes int
}

type chainView struct {
	chain layers.Chain
	view  *layers.View
}

// View returns what a chain looks like as one file system. Where the view of its
// lower layers is known, as that of the step before mostly is, it stands on that.
func (s *Store) View(ctx context.Context, c layers.Chain) (*layers.View, error) {
	s.mu.Lock()
	below, changes := s.views.find(c), s.views.changes
	s.mu.Unlock()
	trees := make([]*layers.Tree, 0, len(c)-len(below.chain))
	for _, l := range c[len(below.chain):] {
		t, err := s.Tree(ctx, l)
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	v := below.view
	if v == nil {
		v, trees = layers.NewView(trees), nil
	}
	for _, t := range trees {
		v = v.With(t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.views.changes == changes {
		s.views.add(chainView{c, v})
	}
	return v, nil
}

// find returns the view with the most layers that c begins with; an empty one if none
// is known.
func (v *views) find(c layers.Chain) (best chainView) {
	for _, known := range v.list {
		if len(known.chain) > len(best.chain) && begins(c, known.chain) {
			best = known
		}
	}
	return best
}

// begins reports whether the layers of with are the lowest ones of c.
func begins(c, with layers.Chain) bool {
	for i := len(with) - 1; i >= 0; i-- { // two that differ mostly do so at the end
		if i >= len(c) || c[i].ID != with[i].ID {
			return false
		}
	}
	return true
}

func (v *views) add(newest chainView) {
	if len(newest.chain) == 0 {
		return // nothing gains by it
	}
	v.list = slices.DeleteFunc(v.list, func(old chainView) bool { return old.view == newest.view })
	v.list = slices.Insert(v.list[:min(len(v.list), maxViews-1)], 0, newest)
}

// drop forgets the views of chains that have a layer.
func (v *views) drop(id layers.ID) {
	v.changes++
	v.list = slices.DeleteFunc(v.list, func(known chainView) bool {
		return slices.ContainsFunc(known.chain, func(l layers.Layer) bool { return l.ID == id })
	})
}

// keepTree keeps the tree of a layer in memory; nil forgets it. No view keeps one that
// was replaced. The caller holds s.mu.
func (s *Store) keepTree(id layers.ID, t *layers.Tree) {
	if s.trees[id] != nil {
		s.views.drop(id)
	}
	if t == nil {
		delete(s.trees, id)
		return
	}
	s.trees[id] = t
}
