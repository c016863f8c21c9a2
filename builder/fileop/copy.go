package fileop

import (
	"context"
	"fmt"
	"path"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// copier does one parser.Copy.
type copier struct {
	run  *run
	tree *tree
	from Input
	op   parser.Copy
	own  *ids
	mode chmod
}

// copy copies what a selects in from.
func (r *run) copy(ctx context.Context, t *tree, from Input, a parser.Copy) error {
	c := copier{run: r, tree: t, from: from, op: a}
	var err error
	if c.own, err = r.owner(ctx, a.Owner); err != nil {
		return err
	}
	if c.mode, err = parseMode(a.Mode); err != nil {
		return err
	}
	if !a.CreateDestPath {
		if err := c.checkDest(); err != nil {
			return err
		}
	}
	sel := Selected(a)
	sel.Follow = a.FollowSymlinks // an archive is looked for behind a symlink in any case
	p, err := Select(ctx, from.FS, sel)
	if err != nil {
		return err
	}
	if len(p.matches) == 0 && !a.AllowEmptyWildcard {
		return &MissingError{Path: a.Src}
	}
	return p.each(ctx, func(match string, from layers.Entry) (func(picked) error, error) {
		return c.match(ctx, match, from)
	})
}

// checkDest fails when the directory to copy into is not there.
func (c *copier) checkDest() error {
	p, err := c.tree.Resolve(rel(c.op.Dest), true)
	if err != nil {
		return err
	}
	if _, ok, err := c.tree.Lookup(layers.Parent(p)); err != nil || !ok {
		return fmt.Errorf("failed to stat %s: %w", c.op.Dest, orMissing(layers.Parent(p), err))
	}
	return nil
}

// match prepares for one match, which from is, and returns what copies each file of
// it. It returns nil where the match was an archive, which is then unpacked.
func (c *copier) match(ctx context.Context, src string, from layers.Entry) (func(picked) error, error) {
	dest := cleanPath(c.op.Dest)
	if c.op.Unpack {
		if done, err := c.unpack(ctx, src, from, dest); done || err != nil {
			return nil, err
		}
	}
	parents := made{mode: c.mode.parents(), own: c.own, time: c.op.Timestamp}
	// A destination that ends in a slash is a directory.
	into := dest
	if dir, file := path.Split(dest); file != "" && file != "." {
		into = dir
	}
	into, err := c.tree.Resolve(rel(into), true)
	if err != nil {
		return nil, err
	}
	if err := c.tree.mkdirAll(into, parents); err != nil {
		return nil, err
	}
	to, err := c.tree.Resolve(rel(dest), true)
	if err != nil {
		return nil, err
	}
	if to, err = c.target(from, src, to, parents); err != nil {
		return nil, err
	}
	t := transfer{copier: c, start: from.Path, to: to, content: &lent{fs: c.from.FS}, names: map[layers.Inode]*inode{}}
	return t.visit, nil
}

// target decides where a source comes to lie: at the destination, or below it
// by its own name.
func (c *copier) target(from layers.Entry, src, to string, parents made) (string, error) {
	dest, exists, err := c.tree.Lookup(to)
	if err != nil {
		return "", err
	}
	isDir := from.Kind == layers.Dir
	if isDir && !c.op.DirContents && exists || !isDir && exists && dest.Kind == layers.Dir {
		to = path.Join(to, path.Base("/"+src))
	}
	dir := layers.Parent(to)
	if isDir && c.op.DirContents && !exists {
		dir = to
	}
	return to, c.tree.mkdirAll(dir, parents)
}

// transfer copies what a walk visits.
type transfer struct {
	*copier
	// start is where the walk begins, and to is where that goes.
	start, to string
	// content is of all files that this transfer copies, and of no others.
	content *lent
	// names are copied files that have several names.
	names map[layers.Inode]*inode
}

func (t *transfer) visit(p picked) error {
	at := path.Join(t.to, p.below)
	was, exists, err := t.tree.Lookup(at)
	if err != nil {
		return err
	}
	if p.implied {
		return t.impliedDir(p.entry, at, was, exists)
	}
	if t.op.AlwaysReplace && exists && at != "" && (p.entry.Kind != layers.Dir || was.Kind != layers.Dir) {
		if err := t.tree.remove(at); err != nil {
			return err
		}
		exists = false
	}
	if p.entry.Kind == layers.Dir {
		return t.dir(p, at, was, exists)
	}
	if exists && was.Kind == layers.Dir {
		return otherKind("cannot replace to directory /%s with file", at)
	}
	if p.entry.Kind != layers.File {
		t.tree.put(at, newInode(t.meta(p.entry)))
		return nil
	}
	t.tree.put(at, t.file(p.entry))
	return nil
}

// file returns the copy of a regular file, the same for all its names.
func (t *transfer) file(e layers.Entry) *inode {
	if f := t.names[e.Inode]; f != nil {
		return f
	}
	f := newInode(t.meta(e))
	f.content, f.from = t.content, e.Path
	if e.Inode != 0 {
		t.names[e.Inode] = f
	}
	return f
}

// dir copies a directory itself. Where one is already, the one that the copy
// began with leaves it as it is, but for its time; those below replace it.
func (t *transfer) dir(p picked, at string, was layers.Entry, exists bool) error {
	meta := t.meta(p.entry)
	if exists && was.Kind != layers.Dir {
		return otherKind("cannot copy to non-directory: /%s", at)
	}
	if exists && p.below == "" {
		if at == "" {
			return nil // no layer tells of the root's time
		}
		time := meta.ModTime
		meta = bare(was)
		meta.ModTime = time
	} else if exists && meta.Xattrs == nil {
		// What a directory has and its source has not, it keeps.
		meta.Xattrs = imageXattrs(was.Xattrs)
	}
	t.tree.put(at, newInode(meta))
	return nil
}

// impliedDir makes a directory that is not selected, for something below that
// is. One that exists gets the source's mode and nothing else.
func (t *transfer) impliedDir(e layers.Entry, at string, was layers.Entry, exists bool) error {
	if exists && was.Kind != layers.Dir {
		return otherKind("cannot copy to non-directory: /%s", at)
	}
	meta := t.meta(e)
	if exists {
		meta = bare(was)
		meta.Mode = e.Mode
	}
	t.tree.put(at, newInode(meta))
	return nil
}

// meta returns what a copy of e is like.
func (t *transfer) meta(e layers.Entry) layers.Entry {
	c := layers.Entry{
		Kind: e.Kind, Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime,
		DevMajor: e.DevMajor, DevMinor: e.DevMinor,
		Xattrs: imageXattrs(e.Xattrs),
	}
	switch e.Kind {
	case layers.File:
		c.Size = e.Size
	case layers.Symlink:
		c.Target = e.Target
	}
	if !t.from.Kept {
		c.UID, c.GID = 0, 0
	}
	if t.own != nil {
		c.UID, c.GID = t.own.uid, t.own.gid
	}
	if e.Kind != layers.Symlink {
		c.Mode = t.mode.apply(e)
	}
	if t.op.Timestamp != nil {
		c.ModTime = *t.op.Timestamp
	}
	return c
}
