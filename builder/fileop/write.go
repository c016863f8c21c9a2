package fileop

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/sinter-build/sinter/layers"
)

// write writes the edits as a layer. It opens no writer, and returns false,
// when there is nothing to be written.
func (t *tree) write(ctx context.Context, open func() (Writer, error)) (bool, error) {
	t, err := t.withMarks()
	if err != nil {
		return false, err
	}
	w := writing{ctx: ctx, tree: t, open: open, first: map[*inode]string{}}
	err = w.walk(t.root, "", !t.root.cut)
	return w.to != nil, err
}

// writing is one write.
type writing struct {
	ctx  context.Context //nolint:containedctx // it lives within one call
	tree *tree
	open func() (Writer, error)
	to   Writer // nil before the first entry
	// above are directories that lead to where the walk is and are not written
	// yet: they are when something below them is.
	above []layers.Entry
	// first is the path that a file of several names has first.
	first map[*inode]string
}

// add writes one entry, and before it the directories that lead to it.
func (w *writing) add(e layers.Entry, c content) error {
	if w.to == nil {
		var err error
		if w.to, err = w.open(); err != nil {
			return err
		}
	}
	for _, dir := range w.above {
		if err := w.addOne(dir, nil); err != nil {
			return err
		}
	}
	w.above = w.above[:0]
	return w.addOne(e, c)
}

func (w *writing) addOne(e layers.Entry, c content) error {
	err := w.addContent(e, c)
	if err != nil {
		return fmt.Errorf("writing /%s: %w", e.Path, err)
	}
	return nil
}

func (w *writing) addContent(e layers.Entry, c content) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if c == nil {
		return w.to.Add(e, nil)
	}
	r, err := c.open(w.ctx)
	if err != nil {
		return err
	}
	err = w.to.Add(e, r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}

// walk goes through what is below a node, in the order of a layer's entries.
// shows tells whether the base shows through at the node.
func (w *writing) walk(n *node, at string, shows bool) error {
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		kid := n.kids[name]
		where := path.Join(at, name)
		was, had, err := layers.Entry{}, false, error(nil)
		if shows {
			if was, had, err = w.tree.base.Lookup(where); err != nil {
				return err
			}
		}
		if kid.gone {
			if had {
				gone := layers.Entry{Path: where, Kind: layers.Whiteout, Offset: -1}
				if err := w.add(gone, nil); err != nil {
					return err
				}
			}
			continue
		}
		depth := len(w.above)
		if err := w.visit(kid, where, was, had); err != nil {
			return err
		}
		if err := w.walk(kid, where, shows && !kid.cut); err != nil {
			return err
		}
		// A directory that nothing was written below leaves no trace.
		w.above = w.above[:min(depth, len(w.above))]
	}
	return nil
}

// visit writes what a node says; was is what the base has there.
func (w *writing) visit(n *node, at string, was layers.Entry, had bool) error {
	if n.file == nil {
		w.above = append(w.above, bare(was))
		return nil
	}
	e := n.file.meta
	e.Path, e.Offset = at, -1
	first := w.first[n.file]
	switch {
	case e.Kind == layers.Dir && had && !n.cut && sameOwn(e, was):
		w.above = append(w.above, e)
		return nil
	case e.Kind == layers.Dir:
		e.Opaque = n.cut && had && was.Kind == layers.Dir
	case first != "":
		e.Kind, e.Link, e.Size = layers.Hardlink, first, 0
		return w.add(e, nil)
	case n.file.names > 1:
		w.first[n.file] = at
	}
	return w.add(e, n.file.content)
}

// bare returns a directory of the base as an entry of the new layer.
func bare(e layers.Entry) layers.Entry {
	e.Opaque, e.Offset, e.Digest = false, -1, ""
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
