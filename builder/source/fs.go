// Package source says what a tree of files is from which steps read, whatever place it
// is in, and serves the files of a chain of layers. The packages below it have a place
// each: local, git, web, image. None of them changes what it reads.
package source

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// FS is a read-only tree of files. Paths are relative to its root, clean, with
// no leading slash; the root is "".
//
// Names of one regular file have the same Inode; files whose Inode is zero have one
// name.
type FS interface {
	// Lookup returns what is at path; symlinks are not followed.
	Lookup(path string) (layers.Entry, bool, error)
	// ReadDir returns what a directory holds, sorted by name.
	ReadDir(path string) ([]layers.Entry, error)
	// Resolve follows the symlinks in path, inside the root. What does not
	// exist stays as it is.
	Resolve(path string, followLast bool) (string, error)
	// Open opens the regular file at the path of e, which Lookup or ReadDir returned.
	// Nothing else of e counts. Reading it fails when ctx ends.
	Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error)
	// Digest returns the digest of a regular file's content.
	Digest(ctx context.Context, e layers.Entry) (digest.Digest, error)
}
