package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/sinter-build/sinter/layers"
)

// Packer writes a layer as a compressed blob, on all cores. It must be ended
// with Close or Abort.
type Packer struct {
	s     *stream
	k     *chunker
	err   error
	ended bool
}

// NewPacker returns a Packer to blob. The uncompressed tar is also written
// to tar unless that is nil. An epoch (or nil) changes modification times. A
// compression that does not exist is reported
// by Add and Close.
func NewPacker(blob io.Writer, c Compression, tar io.Writer, epoch *layers.Epoch) *Packer {
	k := newChunker(blob, c, tar)
	return &Packer{s: newStream(k, epoch, k), k: k, err: c.Check()}
}

// Add appends an entry, under the same rules as Writer.Add.
func (p *Packer) Add(e layers.Entry, content io.Reader) error {
	if p.err == nil {
		p.err = p.s.add(e, content)
	}
	return p.err
}

// Tree returns the entries as Writer.Tree does.
func (p *Packer) Tree() *layers.EncodedTree { return &p.s.tree }

// Close ends the blob, waits until all of it is written and describes it.
func (p *Packer) Close() (Packed, error) {
	if p.ended {
		return Packed{}, errors.New("ending layer blob: it has already ended")
	}
	if p.err == nil {
		p.err = p.s.close()
	}
	p.ended = true
	return p.k.close(p.err)
}

// Abort gives the blob up and frees what the Packer holds. After Close it
// does nothing.
func (p *Packer) Abort() {
	if p.ended {
		return
	}
	p.ended = true
	// The error is the one that was given.
	_, _ = p.k.close(errAborted)
}

// Repack compresses the uncompressed tar of t, which a Writer or Packer
// wrote. The blob has the same bytes as if the entries had been given to a
// Packer with this compression.
func Repack(ctx context.Context, tar io.Reader, t *layers.Tree, blob io.Writer, c Compression) (Packed, error) {
	if err := c.Check(); err != nil {
		return Packed{}, err
	}
	k := newChunker(blob, c, nil)
	return k.close(k.repack(ctx, tar, t))
}

func (k *chunker) repack(ctx context.Context, tar io.Reader, t *layers.Tree) error {
	buf := make([]byte, copyBufferSize)
	var at int64
	for _, e := range t.Entries {
		size, begin := contentSize(e), e.Place.Offset()
		if begin < at {
			return fmt.Errorf("entry %q is not where the tree says", e.Path)
		}
		k.begin(e.Path, size)
		if err := copyExactly(ctx, k, tar, begin-at, buf); err != nil {
			return err
		}
		k.content(size)
		if err := copyExactly(ctx, k, tar, roundUp(size), buf); err != nil {
			return err
		}
		at = begin + roundUp(size)
	}
	return copyAll(ctx, k, tar, buf)
}

// Recompress compresses any tar, in chunks of a fixed size.
func Recompress(ctx context.Context, tar io.Reader, blob io.Writer, c Compression) (Packed, error) {
	if err := c.Check(); err != nil {
		return Packed{}, err
	}
	k := newChunker(blob, c, nil)
	return k.close(k.recompress(ctx, tar))
}

func (k *chunker) recompress(ctx context.Context, tar io.Reader) error {
	buf := make([]byte, copyBufferSize)
	for {
		err := copyExactly(ctx, k, tar, chunkFull, buf)
		k.flush()
		if err == errShort {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errShort is a stream that ended, in order, before all was read. It is not
// io.ErrUnexpectedEOF, which a damaged stream gives.
var errShort = errors.New("the stream is shorter than it should be")

// copyExactly copies n bytes; fewer are errShort.
func copyExactly(ctx context.Context, w io.Writer, r io.Reader, n int64, buf []byte) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := r.Read(buf[:min(n, int64(len(buf)))])
		if _, err := w.Write(buf[:got]); err != nil {
			return err
		}
		n -= int64(got)
		if err == io.EOF && n > 0 {
			return errShort
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

func copyAll(ctx context.Context, w io.Writer, r io.Reader, buf []byte) error {
	if err := copyExactly(ctx, w, r, math.MaxInt64, buf); err != errShort {
		return err
	}
	return nil
}
