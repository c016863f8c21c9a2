package fileop

import (
	"context"
	"fmt"
	"path"
	"strings"
	"syscall"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// made is what a newly made file or directory is like.
type made struct {
	mode uint32
	own  *ids
	time *int64
}

// inode returns a file of that kind in the directory parent.
func (m made) inode(kind layers.Kind, parent layers.Entry) *inode {
	e := layers.Entry{Kind: kind, Mode: m.mode, ModTime: layers.MadeTime}
	if parent.Mode&0o2000 != 0 {
		// As the kernel does below a directory with the setgid bit.
		e.GID = parent.GID
		if kind == layers.Dir {
			e.Mode |= 0o2000
		}
	}
	if m.own != nil {
		e.UID, e.GID = m.own.uid, m.own.gid
	}
	if m.time != nil {
		e.ModTime = *m.time
	}
	return newInode(e)
}

// mkdirAll makes the directory p and those above it, where they are missing. p
// has been resolved.
func (t *tree) mkdirAll(p string, m made) error {
	parent, _, err := t.Lookup("")
	if err != nil {
		return err
	}
	for i := 0; i <= len(p) && p != ""; i++ {
		if i < len(p) && p[i] != '/' {
			continue
		}
		e, ok, err := t.Lookup(p[:i])
		if err != nil {
			return err
		}
		if ok && e.Kind != layers.Dir {
			return fileInTheWay(p[:i])
		}
		if !ok {
			f := m.inode(layers.Dir, parent)
			t.put(p[:i], f)
			e = f.meta()
		}
		parent = e
	}
	return nil
}

// parentOf returns the directory that p is to be made in.
func (t *tree) parentOf(p, doing string) (layers.Entry, error) {
	e, ok, err := t.Lookup(layers.Parent(p))
	switch {
	case err != nil:
	case !ok:
		err = fmt.Errorf("%s /%s: %w", doing, p, syscall.ENOENT)
	case e.Kind != layers.Dir:
		err = fmt.Errorf("%s /%s: %w", doing, p, syscall.ENOTDIR)
	}
	return e, err
}

func (r *run) mkdir(ctx context.Context, t *tree, a parser.Mkdir) error {
	p, err := t.Resolve(rel(a.Path), true)
	if err != nil {
		return err
	}
	own, err := r.owner(ctx, a.Owner)
	if err != nil {
		return err
	}
	m := made{mode: a.Mode & 0o777, own: own, time: a.Timestamp}
	if a.MakeParents {
		return t.mkdirAll(p, m)
	}
	if _, ok, err := t.Lookup(p); err != nil || ok {
		return err
	}
	parent, err := t.parentOf(p, "mkdir")
	if err != nil {
		return err
	}
	t.put(p, m.inode(layers.Dir, parent))
	return nil
}

func (r *run) mkfile(ctx context.Context, t *tree, a parser.Mkfile) error {
	p, err := t.Resolve(rel(a.Path), true)
	if err != nil {
		return err
	}
	own, err := r.owner(ctx, a.Owner)
	if err != nil {
		return err
	}
	parent, err := t.parentOf(p, "mkfile")
	if err != nil {
		return err
	}
	if e, ok, err := t.Lookup(p); err != nil || ok && e.Kind == layers.Dir {
		if err == nil {
			err = fmt.Errorf("mkfile /%s: %w", p, syscall.EISDIR)
		}
		return err
	}
	f := made{mode: a.Mode & 0o777, own: own, time: a.Timestamp}.inode(layers.File, parent)
	f.size, f.content = int64(len(a.Data)), inline(a.Data)
	t.put(p, f)
	return nil
}

func (r *run) symlink(ctx context.Context, t *tree, a parser.MkSymlink) error {
	p, err := t.Resolve(rel(a.New), true)
	if err != nil {
		return err
	}
	own, err := r.owner(ctx, a.Owner)
	if err != nil {
		return err
	}
	parent, err := t.parentOf(p, "symlink")
	if err != nil {
		return err
	}
	if _, ok, err := t.Lookup(p); err != nil || ok {
		if err == nil {
			err = fmt.Errorf("symlink %s /%s: %w", a.Old, p, syscall.EEXIST)
		}
		return err
	}
	f := made{mode: 0o777, own: own, time: a.Timestamp}.inode(layers.Symlink, parent)
	f.rare = &rare{target: a.Old}
	t.put(p, f)
	return nil
}

func remove(ctx context.Context, t *tree, a parser.Remove) error {
	paths := []string{rel(a.Path)}
	if a.AllowWildcard {
		var err error
		if paths, err = matches(ctx, t, cleanPath(a.Path), false); err != nil {
			return err
		}
	}
	for _, p := range paths {
		if err := removePath(t, p, a.AllowNotFound); err != nil {
			return err
		}
	}
	return nil
}

// removePath removes a path; of a symlink, the link.
func removePath(t *tree, p string, mayMiss bool) error {
	if p == "" {
		return fmt.Errorf("removing /: %w", syscall.EINVAL)
	}
	dir, err := t.Resolve(layers.Parent(p), true)
	if err != nil {
		if mayMiss && missing(err) {
			return nil
		}
		return err
	}
	at := path.Join(dir, p[strings.LastIndexByte(p, '/')+1:])
	if !mayMiss {
		end, err := t.Resolve(at, true)
		if err != nil {
			return err
		}
		if _, ok, err := t.Lookup(end); err != nil || !ok {
			return orMissing(p, err)
		}
	}
	return t.remove(at)
}
