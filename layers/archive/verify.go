package archive

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/sinter-build/sinter/layers"
)

// verifier compares what is written to it with an entry's size and digest.
type verifier struct {
	e   *layers.Entry
	sum hash.Hash // nil when there is nothing to compare with
	n   int64
}

func newVerifier(e *layers.Entry) *verifier {
	v := &verifier{e: e}
	if e.Sum.Known() {
		v.sum = sha256.New()
	}
	return v
}

func (v *verifier) Write(p []byte) (int, error) {
	v.n += int64(len(p))
	if v.sum != nil {
		v.sum.Write(p)
	}
	return len(p), nil
}

func (v *verifier) check() error {
	if v.n != v.e.Size {
		return fmt.Errorf("content has %d bytes instead of %d: %w", v.n, v.e.Size, io.ErrUnexpectedEOF)
	}
	if v.sum == nil {
		return nil
	}
	if got := layers.Sum(v.sum.Sum(nil)); got != v.e.Sum {
		return fmt.Errorf("content has digest %s instead of %s", got, v.e.Sum)
	}
	return nil
}
