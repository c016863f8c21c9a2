package archive

import (
	"crypto/sha256"
	"errors"
	"hash"
	"hash/fnv"
	"io"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Where a blob is cut into chunks is a function of its entries only, so that
// the same layer gives the same bytes, and a layer that differs in one file
// differs in few chunks.
const (
	// chunkFull is the length at which a chunk ends before the next entry.
	chunkFull = 1 << 20
	// chunkLeast is the length from which a chunk may end early, before an
	// entry whose path says so. That makes the cuts meet again after a
	// difference.
	chunkLeast = 256 << 10
	// chunkFile is the piece that large files are cut into, counted from
	// the beginning of the file.
	chunkFile = 4 << 20
)

// Lengths of the buffers for chunks. Most layers fit into a small one.
const (
	smallBuffer = 64 << 10
	fullBuffer  = chunkFull + copyBufferSize
)

// Chunk says where a chunk begins in the uncompressed tar and in the blob.
// Each chunk can be decompressed without the others.
type Chunk struct {
	Tar, Blob int64
}

// Packed describes a finished blob.
type Packed struct {
	DiffID  digest.Digest // of the uncompressed tar
	TarSize int64         // in bytes
	Digest  digest.Digest // of the blob
	Size    int64         // of the blob, in bytes
	Chunks  []Chunk       // in order; none when the blob is not compressed
}

// chunker is the sink of a tar stream. It cuts the stream into chunks and has
// them compressed by as many goroutines as there are cores, and hashed and
// written in order by one more.
type chunker struct {
	tarSize  int64 // given to chunks that are already cut
	buf      []byte
	large    bool  // the entry before is a file of more than one piece
	left     int64 // content still to come of a file
	piece    int64 // content until the next cut in a file; 0: no cut
	codec    codec
	work     chan struct{} // one token for each compression under way
	jobs     chan *job     // in order, to the goroutine that writes
	free     chan []byte   // buffers for use again
	finished chan struct{} // closed when the last job is written
	state    *blobState
}

// blobState is what the writing goroutine makes; others read its error while
// it runs, and the rest once it has finished.
type blobState struct {
	mu     sync.Mutex
	err    error
	tar    io.Writer // gets the uncompressed stream too; may be nil
	diffID hash.Hash
	blob   io.Writer
	sum    hash.Hash // nil when the blob is the tar
	size   int64
	chunks []Chunk
}

// job is a chunk on its way through compression.
type job struct {
	tarOffset int64
	plain     []byte
	done      chan struct{}
	packed    []byte
	err       error
}

var errAborted = errors.New("the layer was given up")

func newChunker(blob io.Writer, c Compression, tar io.Writer) *chunker {
	cores := runtime.GOMAXPROCS(0)
	state := &blobState{tar: tar, diffID: sha256.New(), blob: blob}
	if c.Type != Uncompressed {
		state.sum = sha256.New()
	}
	k := &chunker{
		codec:    newCodec(c, cores),
		work:     make(chan struct{}, cores),
		jobs:     make(chan *job, cores),
		free:     make(chan []byte, 2*cores+2),
		finished: make(chan struct{}),
		state:    state,
	}
	go k.writeJobs()
	return k
}

// begin is told that an entry with that much content starts here.
func (k *chunker) begin(path string, size int64) {
	n := len(k.buf)
	if n > 0 && (k.large || size > chunkFile || n >= chunkFull || n >= chunkLeast && endsChunk(path)) {
		k.flush()
	}
	k.large = size > chunkFile
}

// endsChunk picks one path in eight.
func endsChunk(path string) bool {
	h := fnv.New32a()
	io.WriteString(h, path)
	sum := h.Sum32()
	return (sum^sum>>16)%8 == 0
}

// content is told that the content of a file starts here.
func (k *chunker) content(size int64) {
	k.left = size
	if size > chunkFile {
		k.piece = chunkFile
	}
}

// Write takes a part of the tar.
func (k *chunker) Write(p []byte) (int, error) {
	if err := k.state.failed(); err != nil {
		return 0, err
	}
	written := len(p)
	for len(p) > 0 {
		n := int64(len(p))
		if k.left > 0 {
			n = min(n, k.left)
			if k.piece > 0 {
				n = min(n, k.piece)
			}
		}
		k.append(p[:n])
		p = p[n:]
		if k.left == 0 {
			continue
		}
		k.left -= n
		if k.piece > 0 {
			k.piece -= n
			if k.piece == 0 && k.left > 0 {
				k.flush()
				k.piece = chunkFile
			}
		}
		if k.left == 0 {
			k.piece = 0
		}
	}
	return written, nil
}

func (k *chunker) append(p []byte) {
	if k.buf == nil {
		select {
		case k.buf = <-k.free:
		default:
			k.buf = make([]byte, 0, smallBuffer)
		}
	}
	if len(k.buf)+len(p) > cap(k.buf) && cap(k.buf) < fullBuffer {
		k.buf = append(make([]byte, 0, fullBuffer), k.buf...)
	}
	k.buf = append(k.buf, p...)
}

// flush ends the chunk that is being filled.
func (k *chunker) flush() {
	if len(k.buf) == 0 {
		return
	}
	j := &job{tarOffset: k.tarSize, plain: k.buf, done: make(chan struct{})}
	k.tarSize += int64(len(k.buf))
	k.buf = nil
	k.work <- struct{}{}
	go func() {
		j.packed, j.err = k.codec.pack(j.plain)
		<-k.work
		close(j.done)
	}()
	k.jobs <- j
}

// writeJobs hashes and writes the chunks in their order, plain and
// compressed.
func (k *chunker) writeJobs() {
	defer close(k.finished)
	for j := range k.jobs {
		k.state.writePlain(j.plain)
		<-j.done
		k.state.write(j)
		k.codec.release(j.packed)
		select {
		case k.free <- j.plain[:0]:
		default:
		}
	}
}

// close ends the last chunk and waits until all is written. With a cause it
// only cleans up.
func (k *chunker) close(cause error) (Packed, error) {
	if cause != nil {
		k.state.fail(cause)
	} else {
		k.flush()
	}
	close(k.jobs)
	<-k.finished
	k.codec.close()
	if err := k.state.failed(); err != nil {
		return Packed{}, err
	}
	packed := Packed{
		DiffID:  digest.NewDigest(digest.SHA256, k.state.diffID),
		TarSize: k.tarSize,
		Size:    k.state.size,
		Chunks:  k.state.chunks,
	}
	if k.state.sum == nil {
		packed.Digest = packed.DiffID
	} else {
		packed.Digest = digest.NewDigest(digest.SHA256, k.state.sum)
	}
	return packed, nil
}

// writePlain takes in a chunk before it is compressed, or while it is.
func (s *blobState) writePlain(plain []byte) {
	if s.failed() != nil {
		return
	}
	s.diffID.Write(plain)
	if s.tar == nil {
		return
	}
	if _, err := s.tar.Write(plain); err != nil {
		s.fail(err)
	}
}

func (s *blobState) write(j *job) {
	if s.failed() != nil {
		return
	}
	if j.err != nil {
		s.fail(j.err)
		return
	}
	if s.sum != nil {
		s.chunks = append(s.chunks, Chunk{Tar: j.tarOffset, Blob: s.size})
		s.sum.Write(j.packed)
	}
	s.size += int64(len(j.packed))
	if _, err := s.blob.Write(j.packed); err != nil {
		s.fail(err)
	}
}

func (s *blobState) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail keeps the first error.
func (s *blobState) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}
