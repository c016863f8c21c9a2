package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// The further kinds of compression that Decompress knows.
const (
	Bzip2 = "bzip2"
	XZ    = "xz"
)

// maxWindow is the most memory, in bytes, that a compressed stream may
// demand for its dictionary: what zstd's own tool allows (--long=27), and
// twice what xz -9 needs.
const maxWindow = 128 << 20

// gunzip reads ahead this many blocks of this many bytes.
const (
	gunzipBlock  = 256 << 10
	gunzipBlocks = 4
)

// Decompress returns the plain content of r and how it was compressed:
// Gzip, Zstd, Bzip2, XZ or Uncompressed. It looks at the first bytes only,
// never at a name or media type; what it does not know is Uncompressed.
// Its use of memory is bounded, whatever the stream says. The caller closes
// rc, which does not close r.
func Decompress(r io.Reader) (rc io.ReadCloser, kind string, err error) {
	return decompress(r, func(r io.Reader) (io.ReadCloser, error) { return pgzip.NewReaderN(r, gunzipBlock, gunzipBlocks) })
}

func decompress(r io.Reader, gunzip func(io.Reader) (io.ReadCloser, error)) (rc io.ReadCloser, kind string, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(xzHeadLen)
	if err != nil && err != io.EOF {
		return nil, "", fmt.Errorf("detecting compression: %w", err)
	}
	kind, err = detect(head), nil
	switch kind {
	case Gzip:
		rc, err = gunzip(br)
	case Zstd:
		rc, err = openZstd(br)
	case Bzip2:
		rc = io.NopCloser(bzip2.NewReader(br))
	case XZ:
		rc, err = openXZ(br, head)
	default:
		rc = io.NopCloser(br)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading %s stream: %w", kind, err)
	}
	return rc, kind, nil
}

func detect(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return Zstd // begins with a skippable frame
	case len(head) >= 10 && bytes.HasPrefix(head, []byte("BZh")) && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17rE8P\x90"):
		return Bzip2
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return XZ
	}
	return Uncompressed
}

func openZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// xzHeadLen is enough for the stream header and the longest block header of
// an xz file.
const xzHeadLen = 12 + 1024

// openXZ refuses streams that ask for a dictionary which does not fit into
// memory; the library would make it.
func openXZ(r io.Reader, head []byte) (io.ReadCloser, error) {
	if size, ok := xzDictionary(head); ok && size > maxWindow {
		return nil, fmt.Errorf("it needs a dictionary of %d MiB, more than the %d MiB allowed", size>>20, maxWindow>>20)
	}
	x, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(x), nil
}

// xzDictionary finds the dictionary size in the first block header of an xz
// stream (xz file format, section 3.1).
func xzDictionary(head []byte) (int64, bool) {
	if len(head) < 12+4 || head[12] == 0 {
		return 0, false // the index: there is no block
	}
	block := head[12:]
	block = block[:min(len(block), (int(block[0])+1)*4)]
	flags, at := block[1], 2
	for range int(flags>>6&1) + int(flags>>7) { // the optional sizes
		for at < len(block) && block[at] >= 0x80 {
			at++
		}
		at++
	}
	for range int(flags&3) + 1 {
		if at+2 >= len(block) {
			return 0, false
		}
		id, size := block[at], int(block[at+1])
		if id == 0x21 && size == 1 {
			n, err := lzma.DecodeDictCap(block[at+2])
			return n, err == nil
		}
		at += 2 + size
	}
	return 0, false
}

// IsArchive says whether r is a tar, compressed or not: whether its first
// header can be read. The error is one of reading r itself.
func IsArchive(r io.Reader) (bool, error) {
	keep := &errorKeeper{r: r}
	// Of a stream that ends too soon, one that is read ahead loses the last
	// block, in which the header may be.
	plain, _, err := decompress(keep, func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) })
	if err == nil {
		_, err = tar.NewReader(plain).Next()
		_ = plain.Close() // it tells again how the stream ends, which does not count here
	}
	if keep.err != nil {
		return false, fmt.Errorf("detecting archive: %w", keep.err)
	}
	return err == nil, nil
}

// errorKeeper remembers the error of a reader, so that it can be told from
// the errors of those who make sense of the bytes.
type errorKeeper struct {
	r   io.Reader
	err error
}

func (k *errorKeeper) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if err != nil && err != io.EOF {
		k.err = err
	}
	return n, err
}
