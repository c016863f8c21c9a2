package layers

import (
	"path"
	"sort"
	"strings"
	"sync/atomic"
)

// View is the merged, read-only view of a list of trees: what a process sees
// whose root file system is made of these layers. It is lazy: nothing is
// merged before somebody looks at it, and a look-up costs a few binary
// searches in each layer. A View is safe for concurrent use.
//
// A path is hidden by a whiteout above it, by an opaque directory above it
// and by anything that is not a directory on the way to it.
//
// Directories that no layer lists, but that have something below them, exist
// with mode 0755, owner 0:0 and MadeTime, and with the group of the directory around them
// if that has the setgid bit. A layer that does not describe such a directory
// takes it from the next layer below that does, as when it is unpacked on top of
// these layers (BuildKit, containerd), also if it hides what that one has in it.
//
// The root always has mode 0755 and owner 0:0, and is not opaque, whatever a
// layer lists for it.
type View struct {
	layers []*viewed // the lowest first
	// last is the trail of the last look-up that went beyond what was known.
	last atomic.Pointer[trail]
}

// Named is an entry of a view and the layer (counted from the lowest)
// that it comes from.
type Named struct {
	Entry
	Layer int
}

// span is the part of one layer's entries that lies below some directory.
type span struct {
	layer  int
	lo, hi int
}

// NewView returns the view of trees, the lowest first. The trees must not be
// changed afterwards.
func NewView(trees []*Tree) *View {
	v := &View{layers: make([]*viewed, len(trees))}
	for i, t := range trees {
		v.layers[i] = &viewed{Tree: t}
	}
	return v
}

// Lookup returns the entry at path (relative to the root; a leading slash
// and the like do not matter) and the layer that holds it. Symlinks are not
// followed, neither at the end nor on the way: see Resolve.
//
// An entry that is a hardlink in its layer is returned as its file, under its own
// Path. All names of one file have the same Inode, which is not the zero one.
func (v *View) Lookup(p string) (e Entry, layer int, ok bool) {
	d, ok := v.find(p)
	if !ok {
		return Entry{}, 0, false
	}
	return d.Entry, d.Layer, true
}

// ReadDir returns what is directly in the directory at path, sorted by name.
// It returns nothing when there is no directory at path. Entries are as
// Lookup returns them.
func (v *View) ReadDir(p string) []Named {
	d, ok := v.find(p)
	if !ok || d.Kind != Dir {
		return nil
	}
	var list []Named
	// The callback never fails, so neither does children.
	_ = v.children(d.Path, d.below.flat(), func(n Named, _ []span) error {
		list = append(list, n)
		return nil
	})
	return list
}

// Walk calls fn for every entry of the view in the order of ComparePaths,
// beginning with the root, until fn fails; it returns fn's error. Entries
// are as Lookup returns them.
func (v *View) Walk(fn func(Entry, int) error) error {
	root := v.root()
	if err := fn(root.Entry, root.Layer); err != nil {
		return err
	}
	return v.walk("", root.below.flat(), fn)
}

func (v *View) walk(dir string, spans []span, fn func(Entry, int) error) error {
	return v.children(dir, spans, func(n Named, below []span) error {
		if err := fn(n.Entry, n.Layer); err != nil {
			return err
		}
		if n.Kind != Dir {
			return nil
		}
		return v.walk(n.Path, below, fn)
	})
}

// Resolve follows the symlinks in p, inside the view: see the function Resolve.
func (v *View) Resolve(p string, followLast bool) (string, error) {
	lookup := func(p string) (Entry, bool, error) {
		e, _, ok := v.Lookup(p)
		return e, ok, nil
	}
	return Resolve(lookup, p, followLast)
}

// children calls fn for every child of dir, in order, with what the layers
// have below the child. It uses up spans.
func (v *View) children(dir string, spans []span, fn func(Named, []span) error) error {
	for {
		p, any := "", false
		for _, s := range spans {
			if s.lo == s.hi {
				continue
			}
			if c := childPath(v.layers[s.layer].Entries[s.lo].Path, dir); !any || ComparePaths(c, p) < 0 {
				p, any = c, true
			}
		}
		if !any {
			return nil
		}
		m := merging{path: p}
		for _, s := range spans {
			m.add(v, s)
		}
		n, ok := m.result(v)
		for i, s := range spans {
			if s.lo < s.hi && Under(v.layers[s.layer].Entries[s.lo].Path, p) {
				spans[i].lo = v.subtreeEnd(s, p)
			}
		}
		if !ok {
			continue
		}
		if err := fn(n, m.below); err != nil {
			return err
		}
	}
}

// implied returns the directory at p, which the layer does not describe.
func (v *View) implied(layer int, p string) Entry {
	e, layer, ok := v.described(layer, p)
	if ok {
		e.Opaque = false
		return e
	}
	e = impliedDir(p)
	dir, by, ok := v.described(layer, Parent(p))
	i, listed := v.layers[layer].Find(p)
	switch {
	case ok && listed && by == layer:
		e.GID = v.layers[layer].Entries[i].GID
	case ok && dir.Mode&0o2000 != 0:
		e.GID = dir.GID
	}
	return e
}

// described returns what the next layer that describes the directory at p says,
// from the given one down. Where there is none, because no layer does or because
// something else is there first, it returns the lowest layer that implies p.
func (v *View) described(layer int, p string) (Entry, int, bool) {
	if p == "" {
		return Entry{}, layer, false
	}
	for i := layer; i >= 0; i-- {
		entries := v.layers[i].Entries
		at, listed := v.layers[i].Find(p)
		switch {
		case listed && entries[at].Kind != Dir:
			return Entry{}, layer, false
		case listed && !entries[at].Implied:
			return entries[at], i, true
		case listed, at < len(entries) && Under(entries[at].Path, p):
			layer = i
		case at > 0 && entries[at-1].Kind != Dir && Under(p, entries[at-1].Path):
			return Entry{}, layer, false
		}
	}
	return Entry{}, layer, false
}

// search returns the first index of s whose path is not before dir and name. All
// paths of s begin with dir, which ends in a slash or is "".
func (v *View) search(s span, dir, name string) int {
	entries := v.layers[s.layer].Entries
	if s.lo < s.hi && Under(entries[s.lo].Path[len(dir):], name) {
		return s.lo
	}
	return s.lo + sort.Search(s.hi-s.lo, func(i int) bool {
		return ComparePaths(entries[s.lo+i].Path[len(dir):], name) >= 0
	})
}

// subtreeEnd returns the index after the last entry of s that is p or below
// it. s begins at the first such entry. Most subtrees are small, so it
// looks near the beginning first.
func (v *View) subtreeEnd(s span, p string) int {
	entries := v.layers[s.layer].Entries
	if Under(entries[s.hi-1].Path, p) {
		return s.hi
	}
	lo, step := s.lo, 1
	for lo+step < s.hi && Under(entries[lo+step].Path, p) {
		lo += step
		step *= 2
	}
	hi := min(lo+step, s.hi)
	return lo + 1 + sort.Search(hi-lo-1, func(i int) bool {
		return !Under(entries[lo+1+i].Path, p)
	})
}

func impliedDir(p string) Entry {
	return Entry{Path: p, Kind: Dir, Mode: 0o755, ModTime: MadeTime}
}

// childPath returns the ancestor of p (or p) that is directly in dir.
func childPath(p, dir string) string {
	from := len(dir)
	if dir != "" {
		from++
	}
	if i := strings.IndexByte(p[from:], '/'); i >= 0 {
		return p[:from+i]
	}
	return p
}

func cleanPath(p string) string {
	if IsClean(p) {
		return p
	}
	return path.Clean("/" + p)[1:]
}
