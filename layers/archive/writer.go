package archive

import (
	"bufio"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// Writer writes a layer as an uncompressed tar.
type Writer struct {
	s   *stream
	buf *bufio.Writer
	sum hash.Hash
	err error
}

// NewWriter returns a Writer to tar. An epoch (or nil) changes modification times.
func NewWriter(tar io.Writer, epoch *layers.Epoch) *Writer {
	w := &Writer{sum: sha256.New()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(tar, w.sum), copyBufferSize)
	w.s = newStream(w.buf, epoch, nil)
	return w
}

// Add appends an entry; a regular file's content is read to its end and must
// have exactly e.Size bytes and, if e has a digest, that digest. Entries
// come in the order of layers.ComparePaths, so that a hardlink's target is
// before it. After an error the tar is of no use.
func (w *Writer) Add(e layers.Entry, content io.Reader) error {
	if w.err == nil {
		w.err = w.s.add(e, content)
	}
	return w.err
}

// Tree returns the entries as they are in the tar: with Place, Sum and whole
// seconds, a hardlink with the metadata of its target.
func (w *Writer) Tree() *layers.EncodedTree { return &w.s.tree }

// Close ends the tar and returns its digest and size in bytes.
func (w *Writer) Close() (diffID digest.Digest, size int64, err error) {
	if w.err != nil {
		return "", 0, w.err
	}
	if err := w.s.close(); err != nil {
		return "", 0, err
	}
	if err := w.buf.Flush(); err != nil {
		return "", 0, err
	}
	return digest.NewDigest(digest.SHA256, w.sum), w.s.out.n, nil
}
