package fileop

import (
	"path"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/layers"
)

// A layer cannot hold a file whose name begins with ".wh.": whoever reads the
// layer takes that for a deletion (OCI image spec, "Whiteouts"). BuildKit
// writes such files as they are, mostly from archives that were layers
// themselves, so its images lack what they name. So do ours.
const (
	markPrefix = ".wh."
	// metaPrefix begins names that readers of layers skip.
	metaPrefix = markPrefix + markPrefix
	opaqueMark = metaPrefix + ".opq"
)

// withMarks returns the tree with the deletions that its files' names stand
// for, and the paths of these files, sorted.
func (t *tree) withMarks() (*tree, []string, error) {
	if !t.root.marked() {
		return t, nil, nil
	}
	c := t.clone()
	var marks []string
	err := c.applyMarks(c.root, "", !c.root.cut, &marks)
	slices.Sort(marks)
	return c, marks, err
}

func (n *node) marked() bool {
	for name, kid := range n.kids {
		if strings.HasPrefix(name, markPrefix) || kid.marked() {
			return true
		}
	}
	return false
}

// applyMarks does so at and below a node; shows tells whether the base shows
// through there.
func (t *tree) applyMarks(n *node, at string, shows bool, marks *[]string) error {
	for name := range n.kids {
		if !strings.HasPrefix(name, markPrefix) {
			continue
		}
		delete(n.kids, name)
		*marks = append(*marks, layers.Child(at, name))
		var err error
		switch {
		case !shows:
		case name == opaqueMark:
			err = t.hideBelow(n, at)
		case !strings.HasPrefix(name, metaPrefix):
			err = t.hide(n, at, strings.TrimPrefix(name, markPrefix))
		}
		if err != nil {
			return err
		}
	}
	for name, kid := range n.kids {
		if err := t.applyMarks(kid, layers.Child(at, name), shows && !kid.cut, marks); err != nil {
			return err
		}
	}
	return nil
}

// hide removes what the base has at a name below n; what the edits put there
// stays.
func (t *tree) hide(n *node, at, name string) error {
	kid := n.kids[name]
	if kid == nil {
		n.kids[name] = &node{gone: true, cut: true}
		return nil
	}
	if kid.cut {
		return nil
	}
	return t.hideBelow(kid, layers.Child(at, name))
}

// hideBelow removes all that the base has below n.
func (t *tree) hideBelow(n *node, at string) error {
	entries, err := t.base.ReadDir(at)
	if err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	for _, e := range entries {
		if err := t.hide(n, at, path.Base(e.Path)); err != nil {
			return err
		}
	}
	return nil
}
