package archive

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// The default levels. gzip 6 of klauspost's implementation is six times as
// fast as zlib's for 2-3% more bytes.
const (
	gzipDefault = 6
	zstdDefault = 3
)

// codec compresses one chunk at a time, from several goroutines at once.
// Each chunk becomes a complete gzip member or zstd frame. What pack returns
// is given back with release.
type codec interface {
	pack(plain []byte) ([]byte, error)
	release(packed []byte)
	close()
}

func newCodec(c Compression, cores int) codec {
	level := c.Level
	switch c.Type {
	case Zstd:
		if level == 0 {
			level = zstdDefault
		}
		return &zstdCodec{level: zstd.EncoderLevelFromZstd(level), encoders: make(chan *zstd.Encoder, cores), buffers: make(chan []byte, cores)}
	case Uncompressed:
		return plainCodec{}
	default:
		switch level {
		case 0:
			level = gzipDefault
		case Stored:
			level = gzip.NoCompression
		}
		return &gzipCodec{level: level, writers: make(chan *gzip.Writer, cores), buffers: make(chan []byte, cores)}
	}
}

type plainCodec struct{}

func (plainCodec) pack(plain []byte) ([]byte, error) { return plain, nil }
func (plainCodec) release([]byte)                    {}
func (plainCodec) close()                            {}

type gzipCodec struct {
	level   int
	writers chan *gzip.Writer
	buffers chan []byte
}

func (g *gzipCodec) pack(plain []byte) ([]byte, error) {
	out := bytes.NewBuffer(takeBuffer(g.buffers))
	var w *gzip.Writer
	select {
	case w = <-g.writers:
		w.Reset(out)
	default:
		var err error
		if w, err = gzip.NewWriterLevel(out, g.level); err != nil {
			return nil, fmt.Errorf("preparing gzip: %w", err)
		}
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	select {
	case g.writers <- w:
	default:
	}
	return out.Bytes(), nil
}

func (g *gzipCodec) release(packed []byte) { giveBuffer(g.buffers, packed) }
func (g *gzipCodec) close()                {}

type zstdCodec struct {
	level    zstd.EncoderLevel
	encoders chan *zstd.Encoder
	buffers  chan []byte
}

func (z *zstdCodec) pack(plain []byte) ([]byte, error) {
	var enc *zstd.Encoder
	select {
	case enc = <-z.encoders:
	default:
		var err error
		enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(z.level), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("preparing zstd: %w", err)
		}
	}
	out := enc.EncodeAll(plain, takeBuffer(z.buffers))
	select {
	case z.encoders <- enc:
	default:
	}
	return out, nil
}

func (z *zstdCodec) release(packed []byte) { giveBuffer(z.buffers, packed) }

func (z *zstdCodec) close() {
	for {
		select {
		case enc := <-z.encoders:
			enc.Close()
		default:
			return
		}
	}
}

func takeBuffer(buffers chan []byte) []byte {
	select {
	case b := <-buffers:
		return b[:0]
	default:
		return nil
	}
}

func giveBuffer(buffers chan []byte, b []byte) {
	select {
	case buffers <- b:
	default:
	}
}
