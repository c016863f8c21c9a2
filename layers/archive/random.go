package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sinter-build/sinter/layers"
)

// Tar gives access to any part of a layer's uncompressed tar, whether it is
// kept as such or as a blob. It is safe for concurrent use.
type Tar struct {
	blob   io.ReaderAt
	size   int64
	kind   string
	chunks []Chunk

	mu   sync.Mutex
	idle []*inflater // stopped in the middle, to go on from there
}

// maxIdle is how many inflaters a Tar keeps for reading on.
const maxIdle = 4

// OpenChunked returns the tar inside a blob of that size (bytes) and kind of
// compression, of which chunks is the list that came with it. Without chunks
// everything works, but each access reads from the blob's beginning, unless
// it goes on where another one ended. An uncompressed tar needs no chunks.
func OpenChunked(blob io.ReaderAt, size int64, kind string, chunks []Chunk) (*Tar, error) {
	switch kind {
	case Gzip, Zstd, Uncompressed:
	case "":
		kind = Gzip
	default:
		return nil, fmt.Errorf("opening blob: compression %q cannot be read at random", kind)
	}
	for i, c := range chunks {
		if c.Tar < 0 || c.Blob < 0 || c.Blob >= size || i == 0 && (c.Tar != 0 || c.Blob != 0) ||
			i > 0 && (c.Tar <= chunks[i-1].Tar || c.Blob <= chunks[i-1].Blob) {
			return nil, fmt.Errorf("opening blob: chunk %d is not where one can be", i)
		}
	}
	if len(chunks) == 0 {
		chunks = []Chunk{{}}
	}
	return &Tar{blob: blob, size: size, kind: kind, chunks: chunks}, nil
}

// Content returns the content of a regular file of the layer.
func (t *Tar) Content(e layers.Entry) (io.ReadCloser, error) {
	switch {
	case e.Kind != layers.File:
		return nil, fmt.Errorf("reading %q: not a regular file", e.Path)
	case e.Place == 0:
		return nil, fmt.Errorf("reading %q: its place in the tar is not known", e.Path)
	case e.Place.Sparse():
		return t.sparse(e)
	}
	return t.Section(e.Place.Offset(), e.Size)
}

// sparse reads a file that is stored as a map and pieces, from its headers
// on.
func (t *Tar) sparse(e layers.Entry) (io.ReadCloser, error) {
	r, err := t.Section(e.Place.Offset(), -1)
	if err != nil {
		return nil, err
	}
	tr := tar.NewReader(struct{ io.Reader }{r})
	h, err := tr.Next()
	if errors.Is(err, tar.ErrInsecurePath) { // the name plays no role here
		err = nil
	}
	if err == nil && h.Size != e.Size {
		err = errors.New("not where the tree says")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading sparse file %q: %w", e.Path, err), r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{tr, r}, nil
}

// Section returns n bytes of the tar from offset on; n < 0 means all the
// rest. Fewer are io.ErrUnexpectedEOF.
func (t *Tar) Section(offset, n int64) (io.ReadCloser, error) {
	if offset < 0 {
		return nil, fmt.Errorf("reading layer tar: offset %d", offset)
	}
	if t.kind == Uncompressed {
		if n < 0 {
			n = max(0, t.size-offset)
		}
		if offset > t.size || n > t.size-offset {
			return nil, fmt.Errorf("reading layer tar: %w", io.ErrUnexpectedEOF)
		}
		return io.NopCloser(io.NewSectionReader(t.blob, offset, n)), nil
	}
	f, err := t.inflaterAt(offset)
	if err != nil {
		return nil, fmt.Errorf("reading layer blob: %w", err)
	}
	return &section{t: t, f: f, left: n}, nil
}

// inflaterAt returns an inflater that stands at offset: one that stopped a
// little before if there is one, else a new one from the chunk's beginning.
func (t *Tar) inflaterAt(offset int64) (*inflater, error) {
	i := sort.Search(len(t.chunks), func(i int) bool { return t.chunks[i].Tar > offset }) - 1
	start := t.chunks[i]
	f := t.takeIdle(start.Tar, offset)
	if f == nil {
		var err error
		if f, err = t.inflate(start); err != nil {
			return nil, err
		}
	}
	if skipped, err := io.CopyN(io.Discard, f, offset-f.at); err != nil {
		f.close()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("after %d bytes: %w", skipped, err)
	}
	return f, nil
}

// takeIdle returns the idle inflater nearest before offset, if it is not
// before from.
func (t *Tar) takeIdle(from, offset int64) *inflater {
	t.mu.Lock()
	defer t.mu.Unlock()
	best := -1
	for i, f := range t.idle {
		if f.at >= from && f.at <= offset && (best < 0 || f.at > t.idle[best].at) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	f := t.idle[best]
	t.idle = append(t.idle[:best], t.idle[best+1:]...)
	return f
}

func (t *Tar) giveIdle(f *inflater) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == maxIdle {
		t.idle[0].close()
		t.idle = append(t.idle[:0], t.idle[1:]...)
	}
	t.idle = append(t.idle, f)
}

// Close frees what the Tar keeps for reading on; it does not close the blob.
func (t *Tar) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.idle {
		f.close()
	}
	t.idle = nil
	return nil
}

// inflater decompresses a blob from the beginning of some chunk on.
type inflater struct {
	r     io.Reader
	close func()
	at    int64 // in the tar
	err   error
}

func (t *Tar) inflate(from Chunk) (*inflater, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(t.blob, from.Blob, t.size-from.Blob), 64<<10)
	f := &inflater{at: from.Tar, close: func() {}}
	if t.kind == Zstd {
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		f.r, f.close = d, d.Close
		return f, nil
	}
	g, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	f.r = g
	return f, nil
}

func (f *inflater) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.at += int64(n)
	f.err = err
	return n, err
}

// section is a bounded part of what an inflater yields.
type section struct {
	t    *Tar
	f    *inflater
	left int64 // negative: until the end
}

func (s *section) Read(p []byte) (int, error) {
	if s.f == nil {
		return 0, errors.New("reading layer blob: already closed")
	}
	if s.left == 0 {
		return 0, io.EOF
	}
	if s.left > 0 {
		p = p[:min(int64(len(p)), s.left)]
	}
	n, err := s.f.Read(p)
	if s.left > 0 {
		s.left -= int64(n)
		switch {
		case s.left == 0 && err == io.EOF:
			err = nil
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (s *section) Close() error {
	if s.f == nil {
		return nil
	}
	if s.f.err == nil {
		s.t.giveIdle(s.f)
	} else {
		s.f.close()
	}
	s.f = nil
	return nil
}
