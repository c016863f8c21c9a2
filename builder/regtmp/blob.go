package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stallTimeout is how long a download may stand still before it is begun again
// where it stopped.
const stallTimeout = 60 * time.Second

// Blob returns a blob of a repository (docker.io/library/debian). A download
// that breaks off goes on where it stopped, at a mirror or at the registry.
func (c *Client) Blob(ctx context.Context, repo string, desc ocispec.Descriptor) (io.ReadCloser, error) {
	eps, err := c.endpoints(repo)
	if err != nil {
		return nil, err
	}
	d := &download{client: c, repo: repo, places: eps, desc: desc}
	d.ctx, d.stop = context.WithCancelCause(ctx)
	if err := d.open(); err != nil {
		d.stop(nil)
		return nil, err
	}
	return d, nil
}

var errStalled = errors.New("the download stands still")

// download reads a blob, opening it again when it breaks off. Its context lives
// as long as the reader that it is.
type download struct {
	ctx    context.Context //nolint:containedctx // a reader, bound to one call
	stop   context.CancelCauseFunc
	client *Client
	repo   string
	places []endpoint
	desc   ocispec.Descriptor

	body    io.ReadCloser
	at      int64
	breaks  int
	lastErr error
}

// open opens the blob at the current offset, at the first place that has it.
func (d *download) open() error {
	var errs []error
	for _, ep := range d.places {
		body, err := d.client.openAt(d.ctx, ep.repo, d.desc, d.at)
		if err == nil {
			d.body = body
			return nil
		}
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		errs = append(errs, describe(err, ep.repo, d.repo+"@"+d.desc.Digest.String()))
	}
	return worst(errs)
}

func (c *Client) openAt(ctx context.Context, repo name.Repository, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	rt, err := c.session(ctx, repo)
	if err != nil {
		return nil, err
	}
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", repo.Scheme(), repo.RegistryStr(), repo.RepositoryStr(), desc.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	// The client follows redirects to the registry's storage.
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	if offset > 0 && resp.StatusCode == http.StatusOK {
		// It does not know ranges: what we have is read once more.
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			return nil, errors.Join(err, resp.Body.Close())
		}
	}
	return resp.Body, nil
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := d.readSome(p)
		d.at += int64(n)
		if n > 0 {
			d.breaks = 0
		}
		if n > 0 && err != nil && !errors.Is(err, io.EOF) {
			err = nil
			d.lastErr = io.ErrUnexpectedEOF
		}
		whole := d.at >= d.desc.Size
		switch {
		case n > 0 || err == nil:
			return n, nil
		case errors.Is(err, io.EOF) && whole:
			return 0, io.EOF
		case d.ctx.Err() != nil && !errors.Is(context.Cause(d.ctx), errStalled):
			return 0, context.Cause(d.ctx)
		}
		if err := d.again(err); err != nil {
			return 0, err
		}
	}
}

// readSome reads from the open body and gives up when nothing comes.
func (d *download) readSome(p []byte) (int, error) {
	if d.lastErr != nil {
		err := d.lastErr
		d.lastErr = nil
		return 0, err
	}
	timer := time.AfterFunc(stallTimeout, func() { d.body.Close() })
	defer timer.Stop()
	return d.body.Read(p)
}

// again opens the blob where it broke off, after a pause.
func (d *download) again(cause error) error {
	d.breaks++
	if d.breaks > maxTries {
		return fmt.Errorf("downloading %s@%s broke off %d times: %w", d.repo, d.desc.Digest, d.breaks, cause)
	}
	if err := d.body.Close(); err != nil && d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	select {
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	case <-time.After(firstPause << d.breaks):
	}
	return d.open()
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.stop(nil)
	return d.body.Close()
}
