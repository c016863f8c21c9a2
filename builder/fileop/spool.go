package fileop

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers/archive"
)

// spool is a temporary file with the contents of an archive's members: they
// are wanted in another order than the archive has them. The file has no name,
// so nothing is left of it whatever happens.
type spool struct {
	dir  string // where the file is made; "" is the system's temporary folder
	file *os.File
	out  *archive.HoleWriter
	size int64
}

// add appends size bytes of r.
func (s *spool) add(r io.Reader, size int64) (content, error) {
	if size == 0 {
		return inline(nil), nil
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "sinter-unpack-")
		if err != nil {
			return nil, fmt.Errorf("making a temporary file for the archive: %w", err)
		}
		s.file, s.out = f, archive.NewHoleWriter(f)
		if err := os.Remove(f.Name()); err != nil {
			return nil, err
		}
	}
	at := s.size
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(s.out, h), r)
	s.size += n
	if err == nil {
		err = s.out.Finish()
	}
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	c := &spooled{file: s.file, at: at, size: n}
	h.Sum(c.sum[:0])
	return c, nil
}

// Close removes the file.
func (s *spool) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// spooled is the content of one member.
type spooled struct {
	file     *os.File
	at, size int64
	sum      [sha256.Size]byte
}

func (c *spooled) open(ctx context.Context, _ string) (io.ReadCloser, error) {
	return io.NopCloser(archive.ContextReader(ctx, io.NewSectionReader(c.file, c.at, c.size))), nil
}

func (c *spooled) digest(context.Context, string) (digest.Digest, error) {
	return digest.NewDigestFromBytes(digest.SHA256, c.sum[:]), nil
}
