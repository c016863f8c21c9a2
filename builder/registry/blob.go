package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/transfer"
)

// Blob streams a blob of a repository ("docker.io/library/debian"). When the
// connection breaks, the rest is fetched with another request, from another
// mirror if need be. The bytes are not verified: whoever keeps them does, and asks
// again when they are wrong. Then mirrors are left out.
func (c *Client) Blob(ctx context.Context, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w", desc.Digest, err)
	}
	ref, err := parseRepository(repository)
	if err != nil {
		return nil, err
	}
	places, err := c.endpoints(ref.Host, ref.Path)
	if err != nil {
		return nil, err
	}
	if c.wasFetched(desc.Digest) {
		places = places[len(places)-1:]
	}
	return c.blob(ctx, places, desc)
}

// ReadBlob returns a small blob of a repository, such as a config. Its digest and size
// are verified; what arrives damaged is fetched again; if a mirror's copy stays damaged,
// the registry itself is asked.
func (c *Client) ReadBlob(ctx context.Context, repository string, desc ocispec.Descriptor) ([]byte, error) {
	if err := manifest.CheckSmall(desc); err != nil {
		return nil, err
	}
	ref, err := parseRepository(repository)
	if err != nil {
		return nil, err
	}
	return try(ctx, c, ref, func(ctx context.Context, s *session) (data []byte, err error) {
		err = c.retry.intact(ctx, func() (err error) {
			data, err = c.wholeBlob(ctx, s.endpoint, desc)
			return err
		})
		return data, err
	})
}

func (c *Client) wholeBlob(ctx context.Context, e endpoint, desc ocispec.Descriptor) ([]byte, error) {
	r, err := c.blob(ctx, []endpoint{e}, desc)
	if err != nil {
		return nil, err
	}
	data, err := manifest.Read(r, desc)
	err = errors.Join(err, r.Close())
	var damaged *manifest.DamagedError
	if errors.As(err, &damaged) {
		return nil, &corruptError{&Error{
			Msg:  fmt.Sprintf("blob %s arrived damaged: what the registry %s sent %s", desc.Digest, e.host, damaged.What),
			Hint: damagedHint,
		}}
	}
	return data, err
}

// blob streams a blob from the first of places that has it.
func (c *Client) blob(ctx context.Context, places []endpoint, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &blobReader{
		places: places, desc: desc, policy: &c.retry,
		ask: func(places []endpoint, offset int64) (part, int, error) {
			return first(ctx, c, places, func(ctx context.Context, e endpoint) (part, error) {
				return c.ask(ctx, e, desc, offset)
			}, func(late part) { _ = late.body.Close() })
		},
		pause: func(n int) error {
			return c.retry.Pause(ctx, n, 0)
		},
		ended: func() error { return context.Cause(ctx) },
		close: func() { cancel(nil) },
	}
	if err := r.connect(); err != nil {
		cancel(nil)
		return nil, err
	}
	return r, nil
}

// part is what a registry sends of a blob: the bytes that it was asked for, or all
// of them.
type part struct {
	body  io.ReadCloser
	whole bool
}

// blobReader reads a blob over as many connections as it takes.
type blobReader struct {
	desc   ocispec.Descriptor
	policy *retryPolicy
	places []endpoint // not failed yet; the first is in use

	// What needs the transfer's context. ask requests the bytes from offset on and
	// says which of places sends them.
	ask   func(places []endpoint, offset int64) (p part, place int, err error)
	pause func(n int) error
	ended func() error
	close func()

	body     io.ReadCloser
	offset   int64 // how much has been returned
	skip     int64 // how much of body has been returned before
	failures int   // since the last byte
}

func (r *blobReader) Read(p []byte) (int, error) {
	for {
		n, err := r.read(p)
		if n > 0 {
			r.offset += int64(n)
			r.failures = 0
			return n, nil
		}
		switch {
		case err == nil:
			continue
		case err == io.EOF && r.offset >= r.desc.Size:
			return 0, io.EOF
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err := r.resume(err); err != nil {
			return 0, err
		}
	}
}

func (r *blobReader) read(p []byte) (int, error) {
	for r.skip > 0 {
		n, err := io.CopyN(io.Discard, r.body, r.skip)
		r.skip -= n
		if err != nil {
			return 0, err
		}
	}
	return r.body.Read(p)
}

// Close ends the transfer.
func (r *blobReader) Close() error {
	err := r.body.Close()
	r.close()
	return err
}

// resume connects again after a break.
func (r *blobReader) resume(cause error) error {
	_ = r.body.Close()
	if err := r.ended(); err != nil {
		return err
	}
	r.failures++
	silent := errors.Is(cause, transfer.ErrStalled) && r.places[0].mirror && len(r.places) > 1 // each time would cost much
	if r.failures >= r.policy.attempts || silent {
		if len(r.places) == 1 {
			return r.failed(fmt.Errorf("after %d of %d bytes: %w", r.offset, r.desc.Size, cause))
		}
		r.places, r.failures = r.places[1:], 0
	}
	if err := r.pause(max(r.failures, 1)); err != nil {
		return err
	}
	return r.connect()
}

func (r *blobReader) failed(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return fmt.Errorf("fetching blob %s: %w", r.desc.Digest, err)
	}
	return &Error{
		Msg:  fmt.Sprintf("fetching blob %s from %s: %s", r.desc.Digest, r.places[0].host, err),
		Hint: "try again; if it stays so, look at the network, or at the log of the registry", Err: err,
	}
}

// connect asks for the bytes from offset on.
func (r *blobReader) connect() error {
	p, place, err := r.ask(r.places, r.offset)
	if ended := r.ended(); err != nil && ended != nil {
		return ended
	}
	if err != nil {
		r.places = r.places[len(r.places)-1:]
		return r.failed(err)
	}
	r.places = r.places[place:]
	r.body, r.skip = p.body, 0
	if p.whole {
		r.skip = r.offset
	}
	return nil
}

// ask requests a blob from offset on, or the whole of it from those that do not
// understand that.
func (c *Client) ask(ctx context.Context, e endpoint, desc ocispec.Descriptor, offset int64) (part, error) {
	s, err := c.open(ctx, sessionKey{endpoint: e})
	if err != nil {
		return part{}, err
	}
	p, err := s.ask(ctx, desc, offset)
	if offset > 0 && isRefusedRange(err) {
		p, err = s.ask(ctx, desc, 0)
	}
	return p, s.explain(err, nil)
}

func (s *session) ask(ctx context.Context, desc ocispec.Descriptor, offset int64) (part, error) {
	req, err := s.request(ctx, http.MethodGet, "blobs/"+desc.Digest.String())
	if err != nil {
		return part{}, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return part{}, err
	}
	if err := accept(resp, desc.Size, offset); err != nil {
		resp.Body.Close()
		return part{}, err
	}
	return part{resp.Body, resp.StatusCode == http.StatusOK}, nil
}

// rangeError is about a registry that answers with another part of a blob.
type rangeError struct{ got, asked string }

func (e *rangeError) Error() string {
	return fmt.Sprintf("the registry answered with the range %q instead of %q", e.got, e.asked)
}

// isRefusedRange reports whether a registry did not send the part of a blob that it
// was asked for.
func isRefusedRange(err error) bool {
	var other *rangeError
	var answer *transport.Error
	return errors.As(err, &other) || errors.As(err, &answer) && answer.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

// accept checks that resp is the blob, or what was asked for of it.
func accept(resp *http.Response, total, offset int64) error {
	if err := checkStatus(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return err
	}
	if resp.ContentLength < 0 && mediaType(resp.Header.Get("Content-Type")) == "text/html" {
		return &Error{Msg: "the server answers with a web page", Hint: notRegistryHint, Err: errNotRegistry}
	}
	want := total
	if resp.StatusCode == http.StatusPartialContent {
		asked, got := fmt.Sprintf("bytes %d-%d/%d", offset, total-1, total), resp.Header.Get("Content-Range")
		if got != asked {
			return &rangeError{got: got, asked: asked}
		}
		want -= offset
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		return fmt.Errorf("the registry has %d bytes where the manifest says %d", resp.ContentLength, want)
	}
	return nil
}
