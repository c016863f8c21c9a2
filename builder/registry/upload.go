package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// upload mounts or sends a blob. A broken upload begins again: few registries
// can resume one.
func (p *push) upload(ctx context.Context, desc ocispec.Descriptor, meter *meter) error {
	from := p.origin(desc.Digest)
	policy := &p.client.retry
	for n := 1; ; n++ {
		wait, err := p.uploadOnce(ctx, desc, from, meter)
		if err == nil || ctx.Err() != nil || n >= policy.attempts || wait > policy.longest || !passingUpload(err) {
			return p.session.explain(err, nil)
		}
		meter.restart()
		if err := policy.pause(ctx, n, wait); err != nil {
			return err
		}
	}
}

// passingUpload reports whether an upload that failed may succeed if it begins
// again.
func passingUpload(err error) bool {
	var local *localError
	var answer *transport.Error
	switch {
	case errors.As(err, &local):
		return false
	case !errors.As(err, &answer):
		return passing(err)
	case passingStatus(answer.StatusCode):
		return true
	}
	// The registry lost or mixed up the upload; a token ran out on the way.
	for _, d := range answer.Errors {
		switch d.Code {
		case transport.BlobUploadUnknownErrorCode, transport.BlobUploadInvalidErrorCode:
			return true
		}
	}
	return answer.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

// localError is a failure to read what is to be sent.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

// origin is another repository of the registry that has the blob, or "".
func (p *push) origin(d digest.Digest) string {
	for _, repository := range p.img.Origins(d) {
		o, err := parseRepository(repository)
		if err == nil && o.Host == p.ref.Host && o.Path != p.ref.Path {
			return o.Path
		}
	}
	return ""
}

// uploadOnce begins an upload, with an attempt to mount, and sends the blob if
// that did not suffice. It returns how long the registry asks to wait when it
// failed.
func (p *push) uploadOnce(ctx context.Context, desc ocispec.Descriptor, from string, meter *meter) (time.Duration, error) {
	location, err := p.begin(ctx, desc, from)
	if err != nil || location == "" {
		return 0, err
	}
	r, err := p.img.Open(ctx, desc)
	if err != nil {
		return 0, &localError{err}
	}
	body := &uploadBody{r: r, meter: meter}
	defer body.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, location, body)
	if err != nil {
		return 0, err
	}
	q := req.URL.Query()
	q.Set("digest", desc.Digest.String())
	req.URL.RawQuery = q.Encode()
	req.ContentLength = desc.Size
	req.Header.Set("Content-Type", "application/octet-stream")
	if desc.Size == 0 {
		req.Body = http.NoBody
	}
	resp, err := p.session.client.Do(req)
	if readErr := body.failure(); readErr != nil {
		err = &localError{readErr}
	}
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		return 0, err
	}
	defer resp.Body.Close()
	wait := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	if err := transport.CheckError(resp, http.StatusCreated, http.StatusNoContent, http.StatusOK); err != nil {
		return wait, err
	}
	return wait, p.confirmBlob(ctx, resp, desc)
}

// begin starts an upload and returns where to send it: "" when the registry has
// mounted the blob.
func (p *push) begin(ctx context.Context, desc ocispec.Descriptor, from string) (string, error) {
	s := p.session
	rest := "blobs/uploads/"
	if from != "" {
		// A token for both repositories is needed. Where there is none,
		// the blob is sent.
		both := sessionKey{endpoint: p.session.endpoint, push: true, from: from}
		if mounting, err := p.client.open(ctx, both); err == nil {
			s = mounting
			rest += "?mount=" + desc.Digest.String() + "&from=" + strings.ReplaceAll(from, "/", "%2F")
		}
	}
	req, err := s.request(ctx, http.MethodPost, rest)
	if err != nil {
		return "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if from != "" && s != p.session && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}, resp.StatusCode) {
		return p.begin(ctx, desc, "")
	}
	if err := transport.CheckError(resp, http.StatusCreated, http.StatusAccepted); err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusCreated {
		return p.beginAfterMount(ctx, resp, desc, from)
	}
	location, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("the registry did not say where to send a blob: %w", err)
	}
	return location.String(), nil
}

// beginAfterMount continues begin when the registry answers that it mounted the
// blob: if it did not, the blob is sent.
func (p *push) beginAfterMount(ctx context.Context, resp *http.Response, desc ocispec.Descriptor, from string) (string, error) {
	ok, err := p.mounted(ctx, resp, desc)
	switch {
	case err != nil || ok:
		return "", err
	case from != "":
		return p.begin(ctx, desc, "")
	}
	return "", &Error{
		Msg:  fmt.Sprintf("the registry %s answered %q to the beginning of an upload, but does not have the blob", p.session.host, resp.Status),
		Hint: notRegistryHint,
	}
}

// uploadBody reads what is sent, and remembers why that failed.
type uploadBody struct {
	meter *meter

	mu     sync.Mutex
	r      io.ReadCloser
	err    error
	closed bool
}

func (b *uploadBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.meter.moved(n)
	if err != nil && err != io.EOF {
		b.mu.Lock()
		defer b.mu.Unlock()
		// After Close it is no fault of the blob: the request was over.
		if !b.closed {
			b.err = err
		}
	}
	return n, err
}

// Close closes the blob; it may be called twice, by the client and by us.
func (b *uploadBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.r.Close()
}

func (b *uploadBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
