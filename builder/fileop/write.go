package fileop

import (
	"context"
	"io"
	"maps"
	"slices"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// step is one entry of a layer, with its content.
type step struct {
	entry   layers.Entry
	content content
	from    string // what to ask content for
}

// write writes the edits as a layer. It opens no writer, and returns false,
// when there is nothing to be written. marks are as plan returns them.
func (t *tree) write(ctx context.Context, open func() (Writer, error)) (written bool, marks []string, err error) {
	w := stepWriter{open: open}
	marks, err = t.plan(func(s step) error { return w.write(ctx, s) })
	return w.to != nil, marks, err
}

// stepWriter writes steps to a writer that it opens for the first of them.
type stepWriter struct {
	open func() (Writer, error)
	to   Writer
}

func (w *stepWriter) write(ctx context.Context, s step) error {
	if w.to == nil {
		var err error
		if w.to, err = w.open(); err != nil {
			return err
		}
	}
	return archive.Add(ctx, w.to, s.entry, func() (io.ReadCloser, error) { return s.content.open(ctx, s.from) })
}

// plan gives the entries of the layer that the edits make to emit, in their order,
// as they are found: a list of all of them would be large. marks are the paths of
// files that the layer cannot hold, because their names stand for deletions.
func (t *tree) plan(emit func(step) error) (marks []string, err error) {
	t, marks, err = t.withMarks()
	if err != nil {
		return nil, err
	}
	p := plan{tree: t, emit: emit, first: map[*inode]string{}}
	return marks, p.walk(t.root, "", !t.root.cut)
}

// plan finds the entries of a layer.
type plan struct {
	tree *tree
	emit func(step) error
	// above are directories that lead to where the walk is and were not emitted
	// yet: they are when something below them is.
	above []layers.Entry
	// first is the path that a file of several names has first.
	first map[*inode]string
}

// add emits s, and before it the directories that lead to it.
func (p *plan) add(s step) error {
	for _, e := range p.above {
		if err := p.emit(step{entry: e}); err != nil {
			return err
		}
	}
	p.above = p.above[:0]
	return p.emit(s)
}

// walk goes through what is below a node, in the order of a layer's entries.
// shows tells whether the base shows through at the node.
func (p *plan) walk(n *node, at string, shows bool) error {
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		kid := n.kids[name]
		where := layers.Child(at, name)
		was, had, err := layers.Entry{}, false, error(nil)
		if shows {
			if was, had, err = p.tree.base.Lookup(where); err != nil {
				return err
			}
		}
		if kid.gone {
			if had {
				gone := layers.Entry{Path: where, Kind: layers.Whiteout}
				if err := p.add(step{entry: gone}); err != nil {
					return err
				}
			}
			continue
		}
		depth := len(p.above)
		if err := p.visit(kid, where, was, had); err != nil {
			return err
		}
		if err := p.walk(kid, where, shows && !kid.cut); err != nil {
			return err
		}
		// A directory that nothing was written below leaves no trace.
		p.above = p.above[:min(depth, len(p.above))]
	}
	return nil
}

// visit writes what a node says; was is what the base has there.
func (p *plan) visit(n *node, at string, was layers.Entry, had bool) error {
	if n.file == nil {
		p.above = append(p.above, bare(was))
		return nil
	}
	e := n.file.meta()
	e.Path = at
	first := p.first[n.file]
	switch {
	case e.Kind == layers.Dir && had && !n.cut && sameOwn(e, was):
		p.above = append(p.above, e)
		return nil
	case e.Kind == layers.Dir:
		e.Opaque = n.cut && had && was.Kind == layers.Dir
	case first != "":
		return p.add(step{entry: e.LinkTo(first)})
	case n.file.names > 1:
		p.first[n.file] = at
	}
	return p.add(step{entry: e, content: n.file.content, from: n.file.from})
}

// bare returns a directory of the base as an entry of the new layer.
func bare(e layers.Entry) layers.Entry {
	e.Opaque, e.Place, e.Sum = false, 0, layers.Sum{}
	e.Xattrs = imageXattrs(e.Xattrs)
	return e
}

// sameOwn reports whether a directory is as it was, apart from its time: that
// is no change by itself.
func sameOwn(a, b layers.Entry) bool {
	return b.Kind == layers.Dir && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID &&
		maps.Equal(a.Xattrs, imageXattrs(b.Xattrs))
}

const capability = "security.capability"

// imageXattrs returns those extended attributes that a copy keeps.
func imageXattrs(x map[string]string) map[string]string {
	v, ok := x[capability]
	switch {
	case !ok:
		return nil
	case len(x) == 1:
		return x
	}
	return map[string]string{capability: v}
}
