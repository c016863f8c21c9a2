package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// maxPath is the longest path, in bytes, that a layer may have: the most
// that Linux can open.
const maxPath = 4095

// Read makes the table of contents of a foreign, uncompressed layer tar. It
// reads tar to its end and returns the digest and length of all of it.
//
// Names are taken relative to the root; one that climbs out of it is
// refused, and so is a hardlink to something that the layer does not have.
// The later of two entries for a path wins. A parent that is a symlink of
// the same layer is followed inside the root. The first path of a file with
// several names becomes the File, whatever the order in the tar; the file is as
// the last of its hardlinks says. Files have
// the digest of their content and its place.
func Read(ctx context.Context, tar io.Reader) (t *layers.Tree, diffID digest.Digest, size int64, err error) {
	r := newForeignReader(tar)
	if err := r.entries(ctx); err != nil {
		return nil, "", 0, fmt.Errorf("reading layer tar: %w", err)
	}
	if err := copyAll(ctx, io.Discard, &r.in, r.buf); err != nil {
		return nil, "", 0, fmt.Errorf("reading layer tar: %w", err)
	}
	return r.tree.flatten(), digest.NewDigest(digest.SHA256, r.diffID), r.in.n, nil
}

// foreignReader goes through a tar and knows where in it it is.
type foreignReader struct {
	in     countingReader
	diffID hash.Hash
	sum    hash.Hash
	tr     *tar.Reader
	tree   *foreignTree
	sparse int64 // bytes that the sparse files so far have, holes included
	buf    []byte
}

// MaxSparse is how many bytes the sparse files of one tar may have together. A few
// bytes of tar can stand for any number, and all of them are hashed.
const MaxSparse = 64 << 30

// countingReader counts what has been read through it. It hides the other
// methods of r, above all Seek: every byte has to pass.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func newForeignReader(r io.Reader) *foreignReader {
	f := &foreignReader{
		diffID: sha256.New(), sum: sha256.New(),
		tree: newForeignTree(), buf: make([]byte, copyBufferSize),
	}
	f.in.r = bufio.NewReaderSize(io.TeeReader(r, f.diffID), copyBufferSize)
	f.tr = tar.NewReader(&f.in)
	return f
}

func (r *foreignReader) entries(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := roundUp(r.in.n) // of the headers of the next entry
		h, err := r.tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are checked here
			return err
		}
		if err := r.entry(ctx, h, start); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

func (r *foreignReader) entry(ctx context.Context, h *tar.Header, start int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if marker, ok := strings.CutPrefix(base, whiteoutPrefix); ok && !inAufsLinks(name) {
		return r.tree.whiteout(dir, base, marker)
	}
	e, err := EntryOf(h)
	if err != nil {
		return err
	}
	if e.Kind == layers.Hardlink {
		if e.Link, err = cleanName(e.Link); err != nil {
			return fmt.Errorf("hardlink: %w", err)
		}
		return r.tree.link(dir, base, e)
	}
	if e.Kind == layers.File {
		e.Place = layers.At(r.in.n)
		if IsSparse(h) {
			e.Place = layers.SparseAt(start)
			if e.Size > MaxSparse-r.sparse {
				return fmt.Errorf("the sparse files have more than %d GiB", MaxSparse>>30)
			}
			r.sparse += e.Size
		}
		if e.Sum, err = r.content(ctx, e.Size); err != nil {
			return err
		}
	}
	return r.tree.add(dir, base, e)
}

// content reads a file's content to its end.
func (r *foreignReader) content(ctx context.Context, size int64) (layers.Sum, error) {
	r.sum.Reset()
	if err := copyExactly(ctx, r.sum, r.tr, size, r.buf); err != nil {
		if err == errShort {
			err = io.ErrUnexpectedEOF
		}
		return layers.Sum{}, err
	}
	return layers.Sum(r.sum.Sum(nil)), nil
}

// cleanName makes a name or hardlink target of a tar relative to the root.
func cleanName(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	switch {
	case clean == ".":
		return "", nil
	case clean == ".." || strings.HasPrefix(clean, "../"):
		return "", fmt.Errorf("%q leads out of the root", name)
	case len(clean) > maxPath:
		return "", fmt.Errorf("the path is too long: %d bytes, the limit is %d", len(clean), maxPath)
	case strings.IndexByte(clean, 0) >= 0:
		return "", errors.New("the path has a zero byte")
	}
	return clean, nil
}
