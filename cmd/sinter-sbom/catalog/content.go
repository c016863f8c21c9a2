package catalog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/sinter-build/sinter/layers"
)

const (
	// maxFile is how much of one file is read, in bytes. Scanners that need all of a
	// file get an error for a longer one.
	maxFile = 1 << 30
	// maxInMemory is how long a file may be that is held in memory, and maxMemory how
	// much is, in bytes.
	maxInMemory = 1 << 20
	maxMemory   = 32 << 20
	// maxCopied is how long a file may be that is copied as a whole, and maxCopies how
	// much is held in copies, in bytes.
	maxCopied = 128 << 20
	maxCopies = 512 << 20
)

// content is a file that is read at any offset, as syft reads programs: it would read
// another kind of reader into memory.
type content struct {
	*io.SectionReader
	io.Closer
}

// readsAnywhere is what syft asks of a reader that it does not read into memory.
type readsAnywhere interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// fileKey identifies a file of an image.
type fileKey struct {
	layer int
	path  string
}

// shelf holds the contents of files for the next cataloger: several look at each program.
// One that is dropped can still be read by those who have it; the runtime closes copies
// that nobody has.
type shelf struct {
	max, held int64
	contents  map[fileKey]io.ReaderAt
}

func (s *shelf) add(key fileKey, size int64, c io.ReaderAt) {
	if _, ok := s.contents[key]; ok {
		return
	}
	if s.contents == nil || s.held+size > s.max {
		s.contents, s.held = map[fileKey]io.ReaderAt{}, 0
	}
	s.contents[key] = c
	s.held += size
}

// read opens a file of the image.
func (im *Image) read(ctx context.Context, n layers.Named) (io.ReadCloser, error) {
	if n.Size > maxCopied {
		return im.readOn(ctx, n)
	}
	on, key := &im.copies, fileKey{n.Layer, n.Path}
	if n.Size <= maxInMemory {
		on = &im.inMemory
	}
	im.mu.Lock()
	held, ok := on.contents[key]
	im.mu.Unlock()
	if ok {
		return section(held, n.Size), nil
	}
	r, err := im.open(ctx, n.Layer, n.Entry)
	if err != nil {
		return nil, im.fail(err)
	}
	if r, ok := r.(readsAnywhere); ok {
		return r, nil
	}
	defer r.Close()
	if held, err = hold(r, n); err != nil {
		return nil, im.fail(err)
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	on.add(key, n.Size, held)
	return section(held, n.Size), nil
}

func section(r io.ReaderAt, size int64) content {
	return content{io.NewSectionReader(r, 0, size), io.NopCloser(nil)}
}

// hold reads a whole file into memory, or copies a longer one. The reader compares the
// content with its digest at the end.
func hold(r io.Reader, n layers.Named) (io.ReaderAt, error) {
	if n.Size <= maxInMemory {
		var b bytes.Buffer
		b.Grow(int(n.Size) + bytes.MinRead)
		if err := copyAll(&b, r, n); err != nil {
			return nil, err
		}
		return bytes.NewReader(b.Bytes()), nil
	}
	f, err := temporary()
	if err != nil {
		return nil, err
	}
	if err := copyAll(f, r, n); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func copyAll(w io.Writer, r io.Reader, n layers.Named) error {
	copied, err := io.Copy(w, io.LimitReader(r, n.Size+1))
	if err != nil {
		return fmt.Errorf("reading /%s: %w", n.Path, err)
	}
	if copied != n.Size {
		return fmt.Errorf("reading /%s: it does not have %d bytes", n.Path, n.Size)
	}
	return nil
}

// temporary returns a temporary file that is gone when it is closed.
func temporary() (*os.File, error) {
	f, err := os.CreateTemp("", "file-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readOn opens a long file, of which many a cataloger reads the beginning alone.
func (im *Image) readOn(ctx context.Context, n layers.Named) (io.ReadCloser, error) {
	r, err := im.open(ctx, n.Layer, n.Entry)
	if err != nil {
		return nil, im.fail(err)
	}
	if r, ok := r.(readsAnywhere); ok {
		return content{io.NewSectionReader(capped{r, n.Path, maxFile}, 0, n.Size), r}, nil
	}
	to, err := temporary()
	if err != nil {
		r.Close()
		return nil, im.fail(err)
	}
	b := &beginning{im: im, file: n, from: r, to: to}
	return content{io.NewSectionReader(capped{b, n.Path, maxFile}, 0, n.Size), b}, nil
}

// capped is a file that fails when it is read beyond max bytes.
type capped struct {
	io.ReaderAt
	path string
	max  int64
}

// ReadAt implements io.ReaderAt.
func (c capped) ReadAt(p []byte, off int64) (n int, err error) {
	left := c.max - off
	if int64(len(p)) <= left {
		return c.ReaderAt.ReadAt(p, off)
	}
	if left > 0 {
		n, err = c.ReaderAt.ReadAt(p[:left], off)
	}
	if err == nil {
		err = fmt.Errorf("/%s is longer than %d bytes: the rest is not looked at", c.path, c.max)
	}
	return n, err
}

// beginning is a long file that is copied as far as it is read. It is safe for concurrent
// use.
type beginning struct {
	im   *Image
	file layers.Named

	mu     sync.Mutex
	from   io.ReadCloser
	to     *os.File
	copied int64
	err    error // why no more can be copied
}

// ReadAt implements io.ReaderAt.
func (b *beginning) ReadAt(p []byte, off int64) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.copyTo(off + int64(len(p)))
	if off >= b.copied {
		return 0, b.err
	}
	n, err := b.to.ReadAt(p[:min(int64(len(p)), b.copied-off)], off)
	if err == nil && (n < len(p) || b.err != io.EOF) {
		err = b.err // nil if there is more
	}
	return n, err
}

// copyTo copies what comes before the offset end, and more: many read in small steps.
func (b *beginning) copyTo(end int64) {
	if end <= b.copied || b.err != nil {
		return
	}
	end = min(max(end, b.copied+maxInMemory), b.file.Size)
	n, err := io.CopyN(b.to, b.from, end-b.copied)
	b.copied += n
	switch {
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	case err == nil && b.copied == b.file.Size:
		// The reader compares the content with its digest at the end.
		switch _, err = b.from.Read(make([]byte, 1)); err {
		case io.EOF:
			b.err = io.EOF
			return
		case nil:
			err = fmt.Errorf("it has more than %d bytes", b.file.Size)
		}
	}
	if err != nil {
		b.err = b.im.fail(fmt.Errorf("reading /%s: %w", b.file.Path, err))
	}
}

// Close implements io.Closer.
func (b *beginning) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = os.ErrClosed
	b.to.Close()
	return b.from.Close()
}
