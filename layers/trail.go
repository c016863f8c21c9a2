package layers

import (
	"slices"
	"sort"
	"strings"
)

// trail is a path through a view, from the root down: every directory on the way,
// with what the layers have below it. A look-up begins at the deepest of them that
// leads to its path, since a search through all layers for each directory on the
// way takes long in a deep directory. A trail does not change.
type trail []*directory

// directory is a directory of a view. What find and child return may be another file:
// then below is nil.
type directory struct {
	Named
	// described: Named is what a layer lists, not what View.implied says.
	described bool
	below     *spans
}

// spans is what the layers have below a directory, the highest layer first. Views
// that stand on one another share the tails.
type spans struct {
	list []span
	next *spans
}

func (s *spans) flat() []span {
	var all []span
	for ; s != nil; s = s.next {
		all = append(all, s.list...)
	}
	return all
}

// With returns the view of v's trees with t on top. It knows what v knows of where
// something was looked up last, so that a step need not find again what the step
// before it has found.
func (v *View) With(t *Tree) *View {
	higher := &View{layers: append(slices.Clip(v.layers), &viewed{Tree: t})}
	if known := v.last.Load(); known != nil {
		over := higher.over(*known)
		higher.last.Store(&over)
	}
	return higher
}

// over returns a trail of the view below the top layer as it is with that layer.
func (v *View) over(lower trail) trail {
	top := len(v.layers) - 1
	root := *lower[0]
	at, ok := v.rootSpan(&root.Named, top)
	if !ok {
		return lower
	}
	root.below = &spans{[]span{at}, root.below}
	known := append(make(trail, 0, len(lower)), &root)
	shows := true // what the lower view has
	for i, d := range lower[1:] {
		m := merging{path: d.Path}
		name := strings.LastIndexByte(d.Path, '/') + 1
		at.lo = v.search(at, d.Path[:name], d.Path[name:])
		m.add(v, at)
		shows = shows && !m.end
		if m.state == silent && shows {
			return append(known, lower[i+1:]...)
		}
		if len(m.below) == 0 {
			break // the layer has no directory there, and hides that of the lower view
		}
		at = m.below[0]
		higher := &directory{below: &spans{list: m.below}}
		if shows {
			m.stand(d)
			higher.below.next = d.below
		}
		higher.Named, _ = m.result(v)
		higher.described = m.state == described
		known = append(known, higher)
	}
	return known
}

// trail returns the directories that are known: the root at least.
func (v *View) trail() trail {
	if known := v.last.Load(); known != nil {
		return *known
	}
	known := trail{v.root()}
	v.last.Store(&known)
	return known
}

// toward returns the part of the trail that leads to path, and what path adds to it.
func (t trail) toward(path string) (known trail, rest string) {
	deepest := func(longest int) int {
		return sort.Search(len(t), func(i int) bool { return len(t[i].Path) > longest })
	}
	n := deepest(len(path))
	if !Under(path, t[n-1].Path) {
		n = deepest(commonPrefix(path, t[n-1].Path))
	}
	at := len(t[n-1].Path)
	switch {
	case at == 0 || at == len(path):
		return t[:n], path[at:]
	case path[at] == '/':
		return t[:n], path[at+1:]
	}
	// The name of that directory begins that of the one that path leads to.
	at = len(t[n-2].Path)
	return t[:n-1], path[at+min(at, 1):]
}

// root returns the root directory. Its time is that of the highest layer that
// lists it.
func (v *View) root() *directory {
	root := &directory{Named: Named{Entry: impliedDir("")}}
	all := make([]span, 0, len(v.layers))
	for layer := range v.layers {
		if s, ok := v.rootSpan(&root.Named, layer); ok {
			all = append(all, s)
		}
	}
	slices.Reverse(all)
	root.below = &spans{list: all}
	return root
}

// rootSpan returns what a layer has below the root, if anything, and updates root with
// what the layer says of it. It is called for the lowest layer first.
func (v *View) rootSpan(root *Named, layer int) (s span, ok bool) {
	entries := v.layers[layer].Entries
	if len(entries) == 0 {
		return s, false
	}
	s = span{layer: layer, hi: len(entries)}
	root.Layer = layer
	if entries[0].Path == "" {
		s.lo = 1
		root.ModTime = entries[0].ModTime
	}
	return s, true
}

// find returns what is at p, and remembers the directories on the way.
func (v *View) find(p string) (found directory, ok bool) {
	known, rest := v.trail().toward(p)
	if !IsClean(rest) {
		p = cleanPath(p)
		known, rest = v.trail().toward(p)
	}
	found, ok = *known[len(known)-1], true
	way := slices.Clip(known)
	for begin := len(p) - len(rest); ok && begin < len(p); {
		end := len(p)
		if n := strings.IndexByte(p[begin:], '/'); n >= 0 {
			end = begin + n
		}
		if found, ok = v.child(&found, p[:end], begin); ok && found.Kind == Dir {
			way = append(way, &directory{found.Named, found.described, found.below})
		}
		begin = end + 1
	}
	if len(way) > len(known) {
		v.last.Store(&way)
	}
	return found, ok
}

// child returns what is at p in d, where its name begins at p[name].
func (v *View) child(d *directory, p string, name int) (directory, bool) {
	m := merging{path: p}
	for some := d.below; some != nil; some = some.next {
		for _, s := range some.list {
			s.lo = v.search(s, p[:name], p[name:])
			m.add(v, s)
		}
	}
	n, ok := m.result(v)
	found := directory{Named: n, described: m.state == described}
	if len(m.below) > 0 {
		found.below = &spans{list: m.below}
	}
	return found, ok
}
