package fileop

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// maxMembers is how many files and directories unpacking one archive may make.
// They are kept in memory: some hundred bytes each.
const maxMembers = 2 << 20

// unpack unpacks the file e at src, or what e leads to as a symlink, into the directory dest, if it is an archive.
// The destination is the root for all that the archive says: neither a name
// nor a symlink, in the archive or there before, leads outside of it.
func (c *copier) unpack(ctx context.Context, src string, e layers.Entry, dest string) (done bool, err error) {
	if e.Kind == layers.Symlink {
		// What leads nowhere is copied as it is.
		if e, err = lookupSource(c.from.FS, src, true); err != nil {
			return false, nil
		}
	}
	if e.Kind != layers.File {
		return false, nil
	}
	if is, err := c.isArchive(ctx, e); err != nil || !is {
		return false, err
	}
	to, err := c.tree.Resolve(rel(dest), true)
	if err != nil {
		return false, err
	}
	if err := c.tree.mkdirAll(to, made{mode: 0o755, own: c.own, time: c.op.Timestamp}); err != nil {
		return false, err
	}
	f, err := c.from.FS.Open(ctx, e)
	if err != nil {
		return false, err
	}
	defer f.Close()
	plain, _, err := archive.Decompress(f)
	if err != nil {
		return false, badArchive(src, err)
	}
	u := unpacker{tree: c.tree, root: to, own: c.own, spool: &spool{dir: c.run.tmp}}
	c.run.spools = append(c.run.spools, u.spool)
	err = u.all(ctx, tar.NewReader(archive.ContextReader(ctx, plain)))
	if cerr := plain.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return false, badArchive(src, err)
	}
	return true, nil
}

func (c *copier) isArchive(ctx context.Context, e layers.Entry) (bool, error) {
	f, err := c.from.FS.Open(ctx, e)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return archive.IsArchive(f)
}

// unpacker puts the members of one archive into a tree.
type unpacker struct {
	tree *tree
	// root is the directory that is the archive's root.
	root string
	// own owns all members; nil: as the archive says.
	own   *ids
	spool *spool
	count int
	// sparse is how many bytes the sparse files have so far.
	sparse int64
}

func (u *unpacker) all(ctx context.Context, r *tar.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.member(h, r); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// member puts one member into the tree.
func (u *unpacker) member(h *tar.Header, content io.Reader) error {
	name := rel(h.Name)
	if path.Clean(h.Name) == "." {
		return nil // the destination itself stays as it is
	}
	if err := checkName(name); err != nil {
		return err
	}
	if err := checkCapability(h.PAXRecords[capabilityRecord]); err != nil {
		return err
	}
	at, err := u.place(name)
	if err != nil {
		return err
	}
	was, exists, err := u.tree.Lookup(at)
	if err != nil {
		return err
	}
	isDir := exists && was.Kind == layers.Dir && h.Typeflag == tar.TypeDir
	if name == "" && !isDir {
		return fmt.Errorf("the archive's root is not a directory: %w", syscall.ENOTDIR)
	}
	if exists && !isDir {
		if err := u.tree.remove(at); err != nil {
			return err
		}
	}
	if u.count++; u.count > maxMembers {
		return fmt.Errorf("the archive has more than %d files", maxMembers)
	}
	meta, err := u.meta(h)
	if err != nil {
		return err
	}
	f := &inode{}
	switch meta.Kind {
	case layers.Hardlink:
		return u.link(meta, at)
	case layers.Dir:
		if isDir && meta.Xattrs == nil {
			meta.Xattrs = imageXattrs(was.Xattrs)
		}
	case layers.File:
		if f.content, err = u.file(h, content); err != nil {
			return err
		}
	case layers.CharDevice:
		if h.Devmajor == 0 && h.Devminor == 0 {
			return fmt.Errorf("the device 0:0 marks a deletion: %w", syscall.EPERM)
		}
	}
	f.describe(meta)
	u.tree.put(at, f)
	return nil
}

// file keeps the content of a regular file. A sparse one can have any size, of
// which nothing is in the archive.
func (u *unpacker) file(h *tar.Header, r io.Reader) (content, error) {
	if archive.IsSparse(h) {
		if h.Size > archive.MaxSparse-u.sparse {
			return nil, fmt.Errorf("the sparse files have more than %d GiB", archive.MaxSparse>>30)
		}
		u.sparse += h.Size
	}
	return u.spool.add(r, h.Size)
}

// Names are as long as a file system would take them.
const (
	maxPath = 4095
	maxName = 255
)

func checkName(name string) error {
	if len(name) > maxPath {
		return syscall.ENAMETOOLONG
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return syscall.ENAMETOOLONG
		}
	}
	if strings.IndexByte(name, 0) >= 0 {
		return syscall.EINVAL
	}
	return nil
}

const capabilityRecord = "SCHILY.xattr." + capability

// checkCapability refuses a value that no file can have: it is as long as its
// version says (linux/capability.h, struct vfs_cap_data).
func checkCapability(v string) error {
	if v == "" {
		return nil
	}
	if len(v) == 20 && v[3] == 2 || len(v) == 24 && v[3] == 3 {
		return nil
	}
	return fmt.Errorf("%s of %d bytes: %w", capability, len(v), syscall.EINVAL)
}

// place returns where in the tree a member comes to lie, with the symlinks on
// the way followed below the archive's root, and makes the directory for it.
func (u *unpacker) place(name string) (string, error) {
	if name == "" {
		return u.root, nil
	}
	dir, err := layers.Resolve(u.lookup, layers.Parent(name), true)
	if err != nil {
		return "", err
	}
	dir = path.Join(u.root, dir)
	if _, ok, err := u.tree.Lookup(dir); err != nil {
		return "", err
	} else if !ok {
		if err := u.dangling(layers.Parent(name)); err != nil {
			return "", err
		}
		u.count += strings.Count(dir, "/") + 1
	}
	if err := u.tree.mkdirAll(dir, made{mode: 0o755, own: &ids{}}); err != nil {
		return "", err
	}
	return path.Join(dir, path.Base(name)), nil
}

// dangling refuses a directory that is behind a symlink to nothing: missing
// directories are made, but not those that links name.
func (u *unpacker) dangling(dir string) error {
	for i := 0; i < len(dir); i++ {
		end := strings.IndexByte(dir[i:], '/')
		if end < 0 {
			end = len(dir) - i
		}
		i += end
		to, err := layers.Resolve(u.lookup, dir[:i], true)
		if err != nil {
			return err
		}
		if to == path.Clean(dir[:i]) {
			continue
		}
		if _, ok, err := u.lookup(to); err != nil {
			return err
		} else if !ok {
			from, err := layers.Resolve(u.lookup, dir[:i], false)
			if err != nil {
				return err
			}
			if _, isLink, err := u.lookup(from); err != nil {
				return err
			} else if isLink {
				return fmt.Errorf("%q is a symlink to nothing: %w", dir[:i], syscall.ENOENT)
			}
		}
	}
	return nil
}

// lookup looks at a path below the archive's root.
func (u *unpacker) lookup(p string) (layers.Entry, bool, error) {
	return u.tree.Lookup(path.Join(u.root, p))
}

// meta returns what a member is like.
func (u *unpacker) meta(h *tar.Header) (layers.Entry, error) {
	e, err := archive.EntryOf(h)
	e.ModTime = boundTime(h.ModTime)
	if u.own != nil {
		e.UID, e.GID = u.own.uid, u.own.gid
	}
	e.Xattrs = imageXattrs(e.Xattrs)
	return e, err
}

// boundTime returns a time in nanoseconds since 1970, and 0 for one that
// cannot be told so.
func boundTime(t time.Time) int64 {
	const last = (1<<63 - 1) / int64(time.Second)
	if s := t.Unix(); s < 0 || s >= last {
		return 0
	}
	return t.UnixNano()
}

// link makes at another name of a file that is there already.
func (u *unpacker) link(link layers.Entry, at string) error {
	name := rel(link.Link)
	dir, err := layers.Resolve(u.lookup, layers.Parent(name), true)
	if err != nil {
		return err
	}
	target := path.Join(u.root, dir, path.Base("/"+name))
	e, ok, err := u.tree.Lookup(target)
	if err != nil {
		return err
	}
	if !ok || e.Kind == layers.Dir {
		return fmt.Errorf("link to %q: %w", link.Link, syscall.ENOENT)
	}
	f := u.tree.own(target, e)
	if e.Kind == layers.Symlink {
		link.ModTime = e.ModTime // docker's library leaves the time of a symlink
	}
	meta := f.meta()
	meta.Xattrs = nil // the only one that is kept goes with the owner
	archive.Relink(&meta, link)
	f.describe(meta)
	u.tree.put(at, f)
	return nil
}

// own returns the inode of a file of the tree, which becomes part of the edits
// if it was of the base; e is what is there.
func (t *tree) own(p string, e layers.Entry) *inode {
	if n, _ := t.find(p); n != nil && n.file != nil {
		return n.file
	}
	f := newInode(bare(e))
	if e.Kind == layers.File {
		f.from, f.content = p, &lent{fs: t.base}
	}
	t.put(p, f)
	return f
}
