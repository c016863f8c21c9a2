package fileop

import (
	"unsafe"

	"github.com/sinter-build/sinter/layers"
)

// inode is a file, apart from its names. Two nodes with the same inode are
// hard links. It does not change once it is in a tree, but for what unpacking
// an archive says of a second name.
//
// There is one for each file of a copy, so it has no field that few files need, and
// no digest, which content knows.
type inode struct {
	content content
	// from is what to ask content for.
	from          string
	size, modTime int64
	uid, gid      int
	rare          *rare
	mode          uint32
	// names is at how many paths it was put.
	names int32
	kind  layers.Kind
}

// rare is what few files have.
type rare struct {
	target             string // a symlink's
	devMajor, devMinor uint32
	xattrs             map[string]string
}

// newInode returns a file with the metadata of e and no content.
func newInode(e layers.Entry) *inode {
	f := &inode{}
	f.describe(e)
	return f
}

// describe gives f the metadata of e.
func (f *inode) describe(e layers.Entry) {
	f.kind, f.mode, f.uid, f.gid, f.size, f.modTime = e.Kind, e.Mode, e.UID, e.GID, e.Size, e.ModTime
	f.rare = nil
	if e.Target != "" || e.DevMajor != 0 || e.DevMinor != 0 || e.Xattrs != nil {
		f.rare = &rare{target: e.Target, devMajor: e.DevMajor, devMinor: e.DevMinor, xattrs: e.Xattrs}
	}
}

// meta returns what f is like; it has no Path and no Inode.
func (f *inode) meta() layers.Entry {
	e := layers.Entry{
		Kind: f.kind, Mode: f.mode, UID: f.uid, GID: f.gid, Size: f.size, ModTime: f.modTime,
	}
	if r := f.rare; r != nil {
		e.Target, e.DevMajor, e.DevMinor, e.Xattrs = r.target, r.devMajor, r.devMinor, r.xattrs
	}
	return e
}

// entry returns f as what is at p.
func (f *inode) entry(p string) layers.Entry {
	e := f.meta()
	e.Path = p
	if e.Kind == layers.File && f.names > 1 {
		e.Inode = f.id()
	}
	return e
}

// id tells f from other files, and from those of a tree's base.
func (f *inode) id() layers.Inode {
	return 1<<63 | layers.Inode(uintptr(unsafe.Pointer(f)))
}
