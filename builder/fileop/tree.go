package fileop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
)

// tree is a root file system with edits: what the base holds, apart from what
// the nodes say. It is a source.FS itself, so that one action can copy from
// the result of another.
type tree struct {
	base  source.FS // nil: empty
	chain layers.Chain
	root  *node
}

// node is a path that has been changed, or leads to one that has.
type node struct {
	kids map[string]*node
	// file is what the path has become; nil: what the base has there.
	file *inode
	// gone: the path has been removed.
	gone bool
	// cut: what the base has here and below does not show any more.
	cut bool
}

// content is where the bytes of a regular file are, or of many: from tells which,
// and is kept by the file.
type content interface {
	open(ctx context.Context, from string) (io.ReadCloser, error)
	digest(ctx context.Context, from string) (digest.Digest, error)
}

// inline is content that the graph itself holds.
type inline []byte

func (c inline) open(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(c)), nil
}

func (c inline) digest(context.Context, string) (digest.Digest, error) {
	return digest.FromBytes(c), nil
}

// lent is what the files of another file system hold, by their paths there.
type lent struct{ fs source.FS }

func (c *lent) open(ctx context.Context, from string) (io.ReadCloser, error) {
	return c.fs.Open(ctx, layers.Entry{Path: from})
}

func (c *lent) digest(ctx context.Context, from string) (digest.Digest, error) {
	e, ok, err := c.fs.Lookup(from)
	if err == nil && !ok {
		err = fmt.Errorf("/%s: %w", from, fs.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	return c.fs.Digest(ctx, e)
}

func newTree(base source.FS, chain layers.Chain) *tree {
	return &tree{base: base, chain: chain, root: &node{cut: base == nil}}
}

// clone returns a tree that can be changed apart from t.
func (t *tree) clone() *tree {
	return &tree{base: t.base, chain: t.chain, root: t.root.clone()}
}

func (n *node) clone() *node {
	c := *n
	c.kids = maps.Clone(n.kids)
	for name, kid := range c.kids {
		c.kids[name] = kid.clone()
	}
	return &c
}

// find walks to path as far as there are nodes. shows tells whether the base
// shows through there; n is nil when there is no node for the path itself.
func (t *tree) find(p string) (n *node, shows bool) {
	n, shows = t.root, !t.root.cut
	for rest := p; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		n = n.kids[name]
		if n == nil {
			return nil, shows
		}
		shows = shows && !n.cut
	}
	return n, shows
}

// Lookup implements source.FS.
func (t *tree) Lookup(p string) (layers.Entry, bool, error) {
	n, shows := t.find(p)
	switch {
	case n != nil && n.gone:
		return layers.Entry{}, false, nil
	case n != nil && n.file != nil:
		return n.file.entry(p), true, nil
	case shows:
		return t.base.Lookup(p)
	case p == "":
		return layers.Entry{Kind: layers.Dir, Mode: 0o755, ModTime: layers.MadeTime}, true, nil
	}
	return layers.Entry{}, false, nil
}

// ReadDir implements source.FS.
func (t *tree) ReadDir(p string) ([]layers.Entry, error) {
	n, shows := t.find(p)
	var entries []layers.Entry
	if shows {
		below, err := t.base.ReadDir(p)
		if err != nil && !missing(err) {
			return nil, err
		}
		for _, e := range below {
			if n == nil || n.kids[path.Base(e.Path)] == nil {
				entries = append(entries, e)
			}
		}
	}
	if n == nil {
		return entries, nil
	}
	for name := range n.kids {
		e, ok, err := t.Lookup(layers.Child(p, name))
		if err != nil {
			return nil, err
		}
		if ok {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b layers.Entry) int { return layers.ComparePaths(a.Path, b.Path) })
	return entries, nil
}

// Resolve implements source.FS.
func (t *tree) Resolve(p string, followLast bool) (string, error) {
	return layers.Resolve(t.Lookup, p, followLast)
}

// content returns where the bytes of a file of t are, and what to ask there for.
func (t *tree) content(p string) (c content, from string) {
	if n, _ := t.find(p); n != nil && n.file != nil {
		return n.file.content, n.file.from
	}
	return &lent{fs: t.base}, p
}

// Open implements source.FS.
func (t *tree) Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error) {
	c, from := t.content(e.Path)
	return c.open(ctx, from)
}

// Digest implements source.FS.
func (t *tree) Digest(ctx context.Context, e layers.Entry) (digest.Digest, error) {
	c, from := t.content(e.Path)
	return c.digest(ctx, from)
}

// at returns the node for p, made when there is none. like is a path that is kept
// anyway: a name that it ends with takes no memory of its own.
func (t *tree) at(p, like string) *node {
	n := t.root
	for rest := p; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		kid := n.kids[name]
		if kid == nil {
			if n.kids == nil {
				n.kids = map[string]*node{}
			}
			kid = &node{}
			if before, same := strings.CutSuffix(like, name); same {
				name = like[len(before):]
			} else {
				name = strings.Clone(name) // the path is not kept for it
			}
			n.kids[name] = kid
		}
		n = kid
	}
	return n
}

// put makes f what is at p. The directory above must be there, and p must be
// free, or be a directory that f says anew.
func (t *tree) put(p string, f *inode) {
	n := t.at(p, f.from)
	n.file, n.gone = f, false
	f.names++
	if f.kind != layers.Dir {
		n.cut, n.kids = true, nil
	}
}

// remove removes what is at p, if anything, with all below it.
func (t *tree) remove(p string) error {
	_, ok, err := t.Lookup(p)
	if err != nil || !ok {
		return err
	}
	if p == "" {
		return t.clear()
	}
	*t.at(p, "") = node{gone: true, cut: true}
	return nil
}

// clear empties the root directory, which cannot be removed itself.
func (t *tree) clear() error {
	entries, err := t.ReadDir("")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := t.remove(e.Path); err != nil {
			return err
		}
	}
	return nil
}
