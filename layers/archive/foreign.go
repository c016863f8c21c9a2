package archive

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/layers"
)

// foreignTree is a layer while its tar is being read: names and the files
// that they are names of, so that replaced files and hardlinks come out
// right in whatever order the tar has them.
type foreignTree struct {
	root   *node
	aufs   map[string]*file // what old AUFS layers keep their hardlinks in
	budget int64            // bytes that may still be used for entries
}

// node is one name.
type node struct {
	file     *file // nil for a directory that only its content implies
	white    bool  // the name is deleted in the layers below
	opaque   bool
	gid      int // its group where only its content implies it, also below
	length   int // of its path, in bytes
	children map[string]*node
}

// file is what names stand for; several names share one file.
type file struct {
	layers.Entry
	first string // its first path, when flattening
}

// memoryBudget bounds what the table of contents of one layer may take, in
// bytes: about two million files, ten times as many as large images have.
const memoryBudget = 1 << 30

// nodeCost is about what a node and its file take besides their strings.
const nodeCost = 256

// aufsLinks is the directory in which AUFS layers keep files with several
// names; it is not part of the image.
const aufsLinks = ".wh..wh.plnk"

func inAufsLinks(name string) bool { return strings.HasPrefix(name, aufsLinks+"/") }

func newForeignTree() *foreignTree {
	return &foreignTree{root: &node{}, budget: memoryBudget}
}

var errTooMuch = fmt.Errorf("the layer has too many files: their names and attributes would take more than %d MiB of memory", memoryBudget>>20)

func (t *foreignTree) spend(n int) error {
	if t.budget -= int64(n); t.budget < 0 {
		return errTooMuch
	}
	return nil
}

func xattrCost(e layers.Entry) (n int) {
	for name, value := range e.Xattrs {
		n += len(name) + len(value)
	}
	return n
}

// add gives the name base in dir to e.
func (t *foreignTree) add(dir, base string, e layers.Entry) error {
	if err := t.spend(nodeCost + len(e.Link) + len(e.Target) + xattrCost(e)); err != nil {
		return err
	}
	if dir == aufsLinks && e.Kind == layers.File {
		if t.aufs == nil {
			t.aufs = make(map[string]*file)
		}
		t.aufs[base] = &file{Entry: e}
		return nil
	}
	if strings.HasPrefix(layers.Child(dir, base), ".wh..wh.") {
		return nil // AUFS's own
	}
	if dir == "" && base == "" {
		if e.Kind != layers.Dir {
			return errors.New("the root is not a directory")
		}
		t.root.file = &file{Entry: e}
		return nil
	}
	n, err := t.name(dir, base)
	if err != nil {
		return err
	}
	if e.Kind != layers.Dir {
		n.children, n.opaque = nil, false
	}
	n.file = &file{Entry: e}
	return nil
}

// link makes base in dir another name of e.Link, which is then as e says. What
// has been at that name goes first, so nothing can be a link to itself.
func (t *foreignTree) link(dir, base string, e layers.Entry) error {
	if base == "" {
		return errors.New("the root is not a directory")
	}
	n, err := t.name(dir, base)
	if err != nil {
		return err
	}
	n.file, n.children, n.opaque = nil, nil, false
	f, err := t.linked(e.Link)
	if err != nil {
		return err
	}
	if err := t.spend(xattrCost(e)); err != nil {
		return err
	}
	Relink(&f.Entry, e)
	n.file = f
	return nil
}

// linked returns the file that a hardlink names.
func (t *foreignTree) linked(target string) (*file, error) {
	if f := t.aufs[path.Base(target)]; inAufsLinks(target) && f != nil {
		return f, nil
	}
	dir, base := path.Split(target)
	parent, err := t.dir(strings.TrimSuffix(dir, "/"), false)
	switch {
	case err != nil:
		return nil, fmt.Errorf("hardlink to %q: %w", target, err)
	case parent == nil || parent.children[base] == nil || parent.children[base].file == nil:
		return nil, fmt.Errorf("hardlink to %q, which is not in the layer", target)
	case parent.children[base].file.Kind == layers.Dir:
		return nil, fmt.Errorf("hardlink to %q, which is a directory", target)
	}
	return parent.children[base].file, nil
}

// whiteout takes in the marker file base in dir, which is marker without its
// prefix.
func (t *foreignTree) whiteout(dir, base, marker string) error {
	switch {
	case base == opaqueMarker:
		n, err := t.dir(dir, true)
		if err != nil {
			return err
		}
		n.opaque = true
		return nil
	case strings.HasPrefix(marker, whiteoutPrefix):
		return nil // AUFS's own
	case marker == "" || marker == "." || marker == "..":
		return errors.New("a whiteout of nothing")
	}
	n, err := t.name(dir, marker)
	if err != nil {
		return err
	}
	n.white = true
	return nil
}

// name returns the node of base in dir, which it makes.
func (t *foreignTree) name(dir, base string) (*node, error) {
	parent, err := t.dir(dir, true)
	if err != nil {
		return nil, err
	}
	return t.child(parent, base)
}

func (t *foreignTree) child(parent *node, base string) (*node, error) {
	n := parent.children[base]
	if n == nil {
		n = &node{length: parent.length + 1 + len(base), gid: parent.inheritedGID()}
		if n.length > maxPath {
			return nil, fmt.Errorf("the path is too long: %d bytes, the limit is %d", n.length, maxPath)
		}
		if err := t.spend(nodeCost + n.length); err != nil {
			return nil, err
		}
		if parent.children == nil {
			parent.children = make(map[string]*node)
		}
		parent.children[base] = n
	}
	return n, nil
}

// inheritedGID is the group that a directory made below n gets: that of n if it
// has the setgid bit. The root has none, whatever a layer says of it.
func (n *node) inheritedGID() int {
	if n.length == 0 || n.file == nil || n.file.Mode&0o2000 == 0 {
		return 0
	}
	return n.file.GID
}

// maxSymlinks is how many symlinks a parent path may lead through, as many
// as Linux follows.
const maxSymlinks = 40

// dir returns the directory at p, symlinks of this layer followed inside the
// root. Where there is nothing it makes directories, or returns nil.
func (t *foreignTree) dir(p string, create bool) (*node, error) {
	at, rest, links := []*node{t.root}, p, 0
	for rest != "" {
		name, after, _ := strings.Cut(rest, "/")
		rest = after
		n := at[len(at)-1]
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		next := n.children[name]
		switch {
		case next == nil && !create:
			return nil, nil
		case next == nil:
			var err error
			if next, err = t.child(n, name); err != nil {
				return nil, err
			}
		case next.file != nil && next.file.Kind == layers.Symlink:
			if links++; links > maxSymlinks {
				return nil, fmt.Errorf("%q leads through too many symlinks", p)
			}
			if strings.HasPrefix(next.file.Target, "/") {
				at = at[:1]
			}
			rest = next.file.Target + "/" + rest
			continue
		case next.file != nil && next.file.Kind != layers.Dir:
			return nil, fmt.Errorf("%q is not a directory", name)
		}
		at = append(at, next)
	}
	return at[len(at)-1], nil
}

// flatten lists the tree in order.
func (t *foreignTree) flatten() *layers.Tree {
	tree := &layers.Tree{}
	if e, ok := t.root.entry("", 0); ok {
		tree.Entries = append(tree.Entries, e)
	}
	t.root.flatten("", tree)
	return tree
}

func (n *node) flatten(p string, tree *layers.Tree) {
	inherited := n.inheritedGID()
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		child, at := n.children[name], layers.Child(p, name)
		if e, ok := child.entry(at, inherited); ok {
			tree.Entries = append(tree.Entries, e)
		}
		child.flatten(at, tree)
	}
}

// entry is what is listed at p; nothing for an implied directory whose group is
// the one that it inherits.
func (n *node) entry(p string, inherited int) (layers.Entry, bool) {
	opaque := n.opaque || n.white
	switch {
	case n.file == nil && n.white && len(n.children) == 0 && !n.opaque:
		return layers.Entry{Path: p, Kind: layers.Whiteout}, true
	case n.file == nil && n.white: // what is below has nothing to do with it
		return layers.Entry{Path: p, Kind: layers.Dir, Opaque: true, Mode: 0o755, GID: n.gid}, true
	case n.file == nil && (opaque || n.gid != inherited):
		return layers.Entry{Path: p, Kind: layers.Dir, Opaque: opaque, Implied: true, Mode: 0o755, GID: n.gid}, true
	case n.file == nil:
		return layers.Entry{}, false
	}
	e := n.file.Entry
	e.Path = p
	switch {
	case e.Kind == layers.Dir:
		e.Opaque = opaque
	case n.file.first != "":
		return e.LinkTo(n.file.first), true
	default:
		n.file.first = p
	}
	return e, true
}
