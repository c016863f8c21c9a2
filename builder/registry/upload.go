package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/transfer"
)

// upload is the upload of one blob, in as many attempts as it takes.
type upload struct {
	*push
	desc  ocispec.Descriptor
	meter *progress.Meter
	// location is where the registry takes the blob, from offset on; "" when an
	// upload has to be begun.
	location string
	offset   int64
	failed   int // attempts so far
}

// upload mounts or sends a blob.
func (p *push) upload(ctx context.Context, desc ocispec.Descriptor, meter *progress.Meter) error {
	u := &upload{push: p, desc: desc, meter: meter}
	if from := p.origin(desc.Digest); from != "" {
		var ok bool
		if ok, u.location = p.mount(ctx, desc, from); ok {
			return nil
		}
	}
	for {
		if u.location == "" {
			var err error
			if u.location, err = p.begin(ctx); err != nil {
				return p.session.explain(err, nil)
			}
		}
		wait, err := u.attempt(ctx)
		if err == nil {
			return nil
		}
		u.failed++
		policy := &p.client.retry
		if ctx.Err() != nil || u.failed >= uploadAttempts(policy, err) || wait > policy.Longest {
			return p.session.explain(err, nil)
		}
		meter.Set(0)
		if err := policy.Pause(ctx, u.failed, wait); err != nil {
			return err
		}
		if there, err := u.resume(ctx, err); err != nil || there {
			return err
		}
	}
}

// uploadAttempts is how often to try when an upload failed with err: once if that
// cannot pass.
func uploadAttempts(policy *retryPolicy, err error) int {
	var local *localError
	var answer *transport.Error
	switch {
	case errors.As(err, &local):
		return 1
	case errors.As(err, &answer) && !transfer.TransientStatus(answer.StatusCode):
		if isMixedUp(answer) {
			return policy.few()
		}
		return 1
	case isSilence(err):
		return policy.few()
	case answer == nil && !passing(err):
		return 1
	}
	return policy.attempts
}

// isMixedUp reports whether the registry has lost the upload, received something
// else than was sent, or does not know yet what was sent before.
func isMixedUp(answer *transport.Error) bool {
	for _, d := range answer.Errors {
		switch d.Code {
		case transport.BlobUploadUnknownErrorCode, transport.BlobUploadInvalidErrorCode,
			transport.DigestInvalidErrorCode, transport.SizeInvalidErrorCode, transport.ManifestBlobUnknownErrorCode:
			return true
		}
	}
	switch answer.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable, http.StatusExpectationFailed:
		return true
	case http.StatusNotFound, http.StatusConflict, http.StatusGone:
		// Before that, the upload was there.
		return answer.Request != nil && answer.Request.Method == http.MethodPut
	}
	return false
}

// resume prepares the next attempt: an upload that broke off goes on where the
// registry says that it can, others begin anew. there says that the registry
// has the blob in spite of the error.
func (u *upload) resume(ctx context.Context, cause error) (there bool, err error) {
	location := u.location
	u.location, u.offset = "", 0
	var answer *transport.Error
	if errors.As(cause, &answer) && !transfer.TransientStatus(answer.StatusCode) {
		return false, nil
	}
	if there, err := u.has(ctx, u.desc); err != nil || there {
		return there, err
	}
	req, err := http.NewRequestWithContext(once(ctx), http.MethodGet, location, nil)
	if err != nil {
		return false, nil
	}
	resp, err := u.session.client.Do(req)
	if err != nil {
		return false, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return false, nil
	}
	if n := received(resp.Header.Get("Range")); n > 0 && n < u.desc.Size {
		u.location, u.offset = location, n
		if next, err := resp.Location(); err == nil {
			u.location = next.String()
		}
	}
	return false, nil
}

// received is how much of an upload a registry has, in bytes: it says "0-" and the
// number of the last byte. It says "0-0" when it has nothing.
func received(header string) int64 {
	last, ok := strings.CutPrefix(strings.TrimPrefix(header, "bytes="), "0-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n <= 0 {
		return 0
	}
	return n + 1
}

// attempt sends the blob, or what is left of it. It returns how long the registry
// asks to wait when it failed.
func (u *upload) attempt(ctx context.Context) (wait time.Duration, err error) {
	bodies := &uploadBodies{img: u.img, desc: u.desc, offset: u.offset, meter: u.meter}
	req, err := u.request(once(ctx), bodies)
	if err != nil {
		return 0, err
	}
	resp, err := u.session.client.Do(req)
	if readErr := bodies.close(); readErr != nil {
		err = readErr
	}
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return 0, err
	}
	wait = transfer.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	if err := checkStatus(resp, http.StatusCreated, http.StatusNoContent, http.StatusOK); err != nil {
		return wait, err
	}
	return wait, u.confirmBlob(ctx, resp, u.desc)
}

// request makes the request of an attempt. Its body can be had again, as
// redirects want it.
func (u *upload) request(ctx context.Context, bodies *uploadBodies) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.location, nil)
	if err != nil {
		return nil, err
	}
	q := req.URL.Query()
	q.Set("digest", u.desc.Digest.String())
	req.URL.RawQuery = q.Encode()
	req.Header.Set("Content-Type", "application/octet-stream")
	if u.offset > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.desc.Size-1))
	}
	if u.failed%2 == 1 {
		// Who answers and hangs up before the body is there, with a redirect
		// for instance, may not be heard otherwise. Some do not know this.
		req.Header.Set("Expect", "100-continue")
	}
	if u.desc.Size == 0 {
		return req, nil
	}
	req.ContentLength = u.desc.Size - u.offset
	req.GetBody = func() (io.ReadCloser, error) { return bodies.open(ctx) }
	req.Body, err = req.GetBody()
	return req, err
}
