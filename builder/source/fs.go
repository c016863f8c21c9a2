// Package source says what a tree of files is from which steps read, whatever place it
// is in, and serves the files of a chain of layers. The packages below it have a place
// each: local, git, web, image. None of them changes what it reads.
package source

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"

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
	// Open opens a regular file that Lookup or ReadDir returned. Reading it fails
	// when ctx ends.
	Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error)
	// Digest returns the digest of a regular file's content.
	Digest(ctx context.Context, e layers.Entry) (digest.Digest, error)
}

// maxLinks is how many symlinks a path in an image may lead through, as in BuildKit.
const maxLinks = 255

// Resolve follows the symlinks in name as a process would that has its root
// at the root of what lookup sees: no link leads outside. What does not exist
// is kept as it is. A component below something that is no directory is an
// error (syscall.ENOTDIR), as is a circle (syscall.ELOOP).
func Resolve(lookup func(path string) (layers.Entry, bool, error), name string, followLast bool) (string, error) {
	whole := path.Clean("/" + name)[1:]
	rest := strings.Split(whole, "/")
	at, links := "", 0
	for len(rest) > 0 {
		next := rest[0]
		rest = rest[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			at = Parent(at)
			continue
		}
		p := ""
		if links == 0 { // whole begins with it: a deep path costs no string for each directory
			p = whole[:len(at)+min(len(at), 1)+len(next)]
		} else {
			p = Child(at, next)
		}
		e, ok, err := lookup(p)
		if err != nil {
			return "", err
		}
		if ok && e.Kind == layers.Symlink && (followLast || len(rest) > 0) {
			if links++; links > maxLinks {
				return "", fmt.Errorf("following the links of /%s: %w", name, syscall.ELOOP)
			}
			if path.IsAbs(e.Target) {
				at = ""
			}
			rest = append(strings.Split(e.Target, "/"), rest...)
			continue
		}
		if ok && e.Kind != layers.Dir && len(rest) > 0 {
			return "", fmt.Errorf("/%s: %w", p, syscall.ENOTDIR)
		}
		at = p
	}
	return at, nil
}

// Parent returns the directory that holds p; of the root, the root.
func Parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// Child returns the path of what is called name in the directory dir.
func Child(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
