package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/progress"
)

// localError is a failure to read what is to be sent.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// uploadBodies opens the bodies of one request: another one when the request goes
// to another address, or is sent again with another token.
type uploadBodies struct {
	img    Source
	desc   ocispec.Descriptor
	offset int64 // where bodies begin
	meter  *progress.Meter

	mu     sync.Mutex
	opened []*uploadBody
	err    error // why the blob could not be read
}

func (b *uploadBodies) open(ctx context.Context) (io.ReadCloser, error) {
	r, err := b.img.Open(ctx, b.desc)
	if err == nil && b.offset > 0 {
		if _, err = io.CopyN(io.Discard, r, b.offset); err != nil {
			err = errors.Join(err, r.Close())
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.err = err
		return nil, &localError{err}
	}
	b.meter.Set(b.offset)
	body := &uploadBody{of: b, r: r}
	b.opened = append(b.opened, body)
	return body, nil
}

// close closes all bodies and returns why the blob could not be read, if that is
// why the request failed.
func (b *uploadBodies) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, body := range b.opened {
		_ = body.closeLocked()
	}
	if b.err != nil {
		return &localError{b.err}
	}
	return nil
}

// uploadBody reads what is sent.
type uploadBody struct {
	of     *uploadBodies
	r      io.ReadCloser
	closed bool // guarded by of.mu
}

func (b *uploadBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.of.meter.Moved(n)
	if err != nil && err != io.EOF {
		b.of.mu.Lock()
		defer b.of.mu.Unlock()
		// After Close the request is over, and the error says nothing about the blob.
		if !b.closed {
			b.of.err = err
		}
	}
	return n, err
}

// Close closes the blob; it may be called twice, by the client and by us.
func (b *uploadBody) Close() error {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	return b.closeLocked()
}

func (b *uploadBody) closeLocked() error {
	if b.closed {
		return nil
	}
	b.closed = true
	return b.r.Close()
}

// bodyOf makes bodies of requests that can be sent more than once.
func bodyOf(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}
