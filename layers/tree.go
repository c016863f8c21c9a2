package layers

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Kind is the type of a file in a layer. Its numbers are stored in encoded trees and
// are part of the keys of steps: they must never change.
type Kind uint8

// The kinds of entries. Whiteout says that the path does not exist in this
// layer and all below it.
const (
	File        Kind = 0
	Dir         Kind = 1
	Symlink     Kind = 2
	Hardlink    Kind = 3
	CharDevice  Kind = 4
	BlockDevice Kind = 5
	Fifo        Kind = 6
	Whiteout    Kind = 7
)

// Linkable reports whether a file of this kind can have several names.
func (k Kind) Linkable() bool { return k != Dir && k != Hardlink && k != Whiteout }

// Entry is one path of a layer.
type Entry struct {
	// Path is relative to the root, slash-separated and clean, with no
	// leading slash. The root itself is "".
	Path string
	Kind Kind
	// Opaque, on a directory: nothing of the layers below shows through.
	Opaque bool
	// Implied, on a directory: the layer does not describe it, and lists it only
	// for its Opaque, or for the GID that it has where no layer below has such a
	// directory and this one describes the directory around it. A View says what
	// it is like.
	Implied bool
	// Mode is the permission bits with setuid (04000), setgid (02000) and
	// sticky (01000).
	Mode     uint32
	UID, GID int
	// Size is the length of a regular file's content in bytes.
	Size int64
	// ModTime is in nanoseconds since the Unix epoch.
	ModTime int64
	// Target is where a symlink points to, as it was written.
	Target string
	// Link, of a Hardlink, is the Path of the entry of the same layer that this is
	// another name of.
	Link string
	// Inode is the same for all names of one file in a View or a directory. The
	// entries of a Tree have none: there, all names but the first are Hardlinks.
	Inode Inode
	// DevMajor and DevMinor number a device.
	DevMajor, DevMinor uint32
	// Xattrs are the extended attributes that belong into an image
	// (security.capability, user.*); never an overlay's own.
	Xattrs map[string]string
	// Sum is the digest of a regular file's content; zero when nobody has computed
	// it yet.
	Sum Sum
	// Place is where a regular file's content is in the layer's uncompressed tar.
	Place Place
}

// LinkTo returns e as a hardlink to the entry at path, with the metadata that it has.
func (e Entry) LinkTo(path string) Entry {
	return Entry{
		Path: e.Path, Kind: Hardlink, Link: path,
		Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime, Xattrs: e.Xattrs,
	}
}

// Inode identifies a file among those of one View or directory. Zero is that of a file
// with one name.
type Inode uint64

// Place is where something is in an uncompressed tar. The zero Place is nowhere: a
// layer whose files are in a directory that a command left has no tar.
type Place int64

// At is the Place of content that begins at offset.
func At(offset int64) Place { return Place(offset + 1) }

// SparseAt is the Place of a sparse file of a foreign tar, whose content is not in one
// piece: the headers that describe it begin at offset.
func SparseAt(offset int64) Place { return Place(-1 - offset) }

// Offset returns where the content, or of a sparse file the headers, begin. It is -1
// for the zero Place.
func (p Place) Offset() int64 {
	if p.Sparse() {
		return int64(-1 - p)
	}
	return int64(p - 1)
}

// Sparse reports whether p is that of a sparse file's headers.
func (p Place) Sparse() bool { return p < 0 }

// Tree is the table of contents of one layer: its entries in the order of
// ComparePaths, each path at most once.
type Tree struct {
	Entries []Entry
}

// Find returns the index of the entry at path, exactly as it is listed.
func (t *Tree) Find(path string) (int, bool) {
	return sort.Find(len(t.Entries), func(i int) int {
		return ComparePaths(path, t.Entries[i].Path)
	})
}

// Sort puts the entries into the order of ComparePaths. Entries with the
// same path keep their order; it is up to the caller to leave only one.
func (t *Tree) Sort() {
	slices.SortStableFunc(t.Entries, func(a, b Entry) int {
		return ComparePaths(a.Path, b.Path)
	})
}

// IsClean says whether path is one that an Entry may have: relative, without
// empty components, "." and "..", and without zero bytes. The root "" is.
func IsClean(path string) bool {
	for start, i := 0, 0; i <= len(path) && path != ""; i++ {
		if i < len(path) && path[i] != '/' {
			if path[i] == 0 {
				return false
			}
			continue
		}
		switch path[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

// Validate says what is wrong with the shape of a tree, if anything: paths
// that are not clean, twice there or out of order, something below what is
// not a directory, a hardlink to what cannot have several names.
func (t *Tree) Validate() error {
	var file string // the last entry that nothing may be below of
	for i := range t.Entries {
		e := &t.Entries[i]
		switch {
		case !IsClean(e.Path):
			return fmt.Errorf("entry %q: path is not clean", e.Path)
		case i > 0 && ComparePaths(t.Entries[i-1].Path, e.Path) >= 0:
			return fmt.Errorf("entry %q: out of order", e.Path)
		case file != "" && Under(e.Path, file):
			return fmt.Errorf("entry %q: below %q, which is not a directory", e.Path, file)
		case e.Path == "" && e.Kind != Dir:
			return fmt.Errorf("the root is not a directory")
		case e.Kind > Whiteout || e.Size < 0 || e.Implied && e.Kind != Dir:
			return fmt.Errorf("entry %q: no such kind or size", e.Path)
		case e.Kind == Hardlink:
			if j, ok := t.Find(e.Link); !ok || !t.Entries[j].Kind.Linkable() {
				return fmt.Errorf("entry %q: hardlink to %q, which is not a file of the layer", e.Path, e.Link)
			}
		}
		if e.Kind != Dir {
			file = e.Path
		}
	}
	return nil
}

// ComparePaths orders paths so that a directory comes right before all that
// is below it: by components, not by bytes.
func ComparePaths(a, b string) int {
	i := commonPrefix(a, b)
	switch {
	case i == len(a) || i == len(b):
		return len(a) - len(b)
	case a[i] == '/':
		return -1
	case b[i] == '/':
		return 1
	case a[i] < b[i]:
		return -1
	}
	return 1
}

// commonPrefix returns how many bytes a and b begin with in common.
func commonPrefix(a, b string) int {
	i, n := 0, min(len(a), len(b))
	for i+8 <= n && a[i:i+8] == b[i:i+8] { // several times faster
		i += 8
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// Under reports whether path is dir or below it; everything is under "".
func Under(path, dir string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}
