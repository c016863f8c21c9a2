package layers

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// Kind is the type of a file in a layer.
type Kind uint8

// The kinds of entries. Whiteout says that the path does not exist in this
// layer and all below it.
const (
	File Kind = iota
	Dir
	Symlink
	Hardlink
	CharDevice
	BlockDevice
	Fifo
	Whiteout
)

// Entry is one path of a layer.
type Entry struct {
	// Path is relative to the root, slash-separated and clean, with no
	// leading slash. The root itself is "".
	Path string
	Kind Kind
	// Opaque, on a directory: nothing of the layers below shows through.
	Opaque bool
	// Mode is the permission bits with setuid (04000), setgid (02000) and
	// sticky (01000).
	Mode     uint32
	UID, GID int
	// Size is the length of a regular file's content in bytes.
	Size int64
	// ModTime is in nanoseconds since the Unix epoch.
	ModTime int64
	// Link is a symlink's target as written, or the Path of the entry (in
	// the same layer) that a hardlink is another name of.
	Link string
	// DevMajor and DevMinor number a device.
	DevMajor, DevMinor int64
	// Xattrs are the extended attributes that belong into an image
	// (security.capability, user.*); never an overlay's own.
	Xattrs map[string]string
	// Digest is of a regular file's content; empty when nobody has
	// computed it yet.
	Digest digest.Digest
	// Offset is where a regular file's content begins in the layer's
	// uncompressed tar; -1 when the layer has no tar (a directory that a
	// command left).
	Offset int64
}

// Tree is the table of contents of one layer: its entries in the order of
// ComparePaths, each path at most once.
type Tree struct {
	Entries []Entry
}

// ComparePaths orders paths so that a directory comes right before all that
// is below it: by components, not by bytes.
func ComparePaths(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		case a[i] < b[i]:
			return -1
		default:
			return 1
		}
	}
	return len(a) - len(b)
}

// Under reports whether path is dir or below it; everything is under "".
func Under(path, dir string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}
