package fileop

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/sinter-build/sinter/layers"
)

// step is one entry of the layer to be written, with its content.
type step struct {
	entry   layers.Entry
	content content
}

// write writes the edits as a layer. It opens no writer, and returns false,
// when there is nothing to be written.
func (t *tree) write(ctx context.Context, open func() (Writer, error)) (bool, error) {
	t, err := t.withMarks()
	if err != nil {
		return false, err
	}
	p := plan{tree: t, first: map[*inode]string{}}
	if err := p.walk(t.root, "", !t.root.cut); err != nil {
		return false, err
	}
	if len(p.steps) == 0 {
		return false, nil
	}
	w, err := open()
	if err != nil {
		return false, err
	}
	for _, s := range p.steps {
		if err := s.write(ctx, w); err != nil {
			return true, fmt.Errorf("writing /%s: %w", s.entry.Path, err)
		}
	}
	return true, nil
}

func (s step) write(ctx context.Context, w Writer) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if s.content == nil {
		return w.Add(s.entry, nil)
	}
	r, err := s.content.open(ctx)
	if err != nil {
		return err
	}
	err = w.Add(s.entry, r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}

// plan collects the entries of a layer.
type plan struct {
	tree  *tree
	steps []step
	// above are directories that lead to where the walk is and are not in
	// steps yet: they come there when something below them does.
	above []layers.Entry
	// first is the path that a file of several names has first.
	first map[*inode]string
}

func (p *plan) add(s step) {
	for _, e := range p.above {
		p.steps = append(p.steps, step{entry: e})
	}
	p.above = p.above[:0]
	p.steps = append(p.steps, s)
}

// walk goes through what is below a node, in the order of a layer's entries.
// shows tells whether the base shows through at the node.
func (p *plan) walk(n *node, at string, shows bool) error {
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		kid := n.kids[name]
		where := path.Join(at, name)
		was, had, err := layers.Entry{}, false, error(nil)
		if shows {
			if was, had, err = p.tree.base.Lookup(where); err != nil {
				return err
			}
		}
		if kid.gone {
			if had {
				p.add(step{entry: layers.Entry{Path: where, Kind: layers.Whiteout, Offset: -1}})
			}
			continue
		}
		depth := len(p.above)
		p.visit(kid, where, was, had)
		if err := p.walk(kid, where, shows && !kid.cut); err != nil {
			return err
		}
		// A directory that nothing was written below leaves no trace.
		p.above = p.above[:min(depth, len(p.above))]
	}
	return nil
}

// visit adds what a node says to the layer; was is what the base has there.
func (p *plan) visit(n *node, at string, was layers.Entry, had bool) {
	if n.file == nil {
		p.above = append(p.above, bare(was))
		return
	}
	e := n.file.meta
	e.Path, e.Offset = at, -1
	switch {
	case e.Kind == layers.Dir && had && !n.cut && sameOwn(e, was):
		p.above = append(p.above, e)
	case e.Kind == layers.Dir:
		e.Opaque = n.cut && had && was.Kind == layers.Dir
		p.add(step{entry: e})
	case p.first[n.file] != "":
		e.Kind, e.Link, e.Size = layers.Hardlink, p.first[n.file], 0
		p.add(step{entry: e})
	default:
		p.first[n.file] = at
		p.add(step{entry: e, content: n.file.content})
	}
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
