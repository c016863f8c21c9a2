package archive

import (
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// verifier passes on what it reads, and at the end fails when that had not the
// wanted length and digest.
type verifier struct {
	r    io.Reader
	want ocispec.Descriptor
	sum  digest.Verifier // nil when there is nothing to compare with
	n    int64
}

// Verify passes on what r holds. At its end, or when that is too long, it fails with
// folder.ErrCorrupt unless it is what is wanted: of that length and, if there is one,
// that digest.
func Verify(r io.Reader, want ocispec.Descriptor) io.Reader {
	v := &verifier{r: r, want: want}
	if want.Digest != "" {
		v.sum = want.Digest.Verifier()
	}
	return v
}

// Verified is Verify for a reader that has to be closed.
func Verified(r io.ReadCloser, want ocispec.Descriptor) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{Verify(r, want), r}
}

// ContentOf describes the content of a regular file as if it were a blob. Its digest is
// empty if nobody knows it.
func ContentOf(e layers.Entry) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: e.Sum.Digest(), Size: e.Size}
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.n += int64(n)
	if v.sum != nil {
		_, _ = v.sum.Write(p[:n]) // a hash takes everything
	}
	switch {
	case v.n > v.want.Size:
		return n, fmt.Errorf("%w: more than the %d bytes of %s", folder.ErrCorrupt, v.want.Size, v.want.Digest)
	case err != io.EOF:
		return n, err
	case v.n < v.want.Size:
		return n, fmt.Errorf("%w: %d of the %d bytes of %s: %w", folder.ErrCorrupt, v.n, v.want.Size, v.want.Digest, io.ErrUnexpectedEOF)
	case v.sum != nil && !v.sum.Verified():
		return n, fmt.Errorf("%w %s", folder.ErrCorrupt, v.want.Digest)
	}
	return n, io.EOF
}
