package registry

import (
	"context"
	"encoding/json"
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
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/event"
)

// parallelUploads is how many blobs of an image are sent at once.
const parallelUploads = 4

// Source is an image that can be pushed.
type Source interface {
	// Root describes the manifest or index.
	Root() ocispec.Descriptor
	// Open reads a manifest, config or layer of the image.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Origins are repositories known to hold a blob.
	Origins(d digest.Digest) []string
}

// Push makes ref (HOST/PATH[:TAG] or HOST/PATH@DIGEST) stand for an image. What
// the repository has is not sent again; what another repository of the same
// registry has is mounted from there. Manifests are sent last, so at no time
// does a name stand for an image that is not whole. progress may be nil; it
// gets an event for each blob as it moves, and is called from several
// goroutines.
func (c *Client) Push(ctx context.Context, ref string, img Source, progress func(event.Progress)) error {
	named, err := ParseRef(ref)
	if err != nil {
		return err
	}
	root := img.Root()
	if named.Digest != "" && named.Digest != root.Digest {
		return fmt.Errorf("pushing to %s: the image has another digest: %s", named, root.Digest)
	}
	if progress == nil {
		progress = func(event.Progress) {}
	}
	content, err := contentOf(ctx, img)
	if err != nil {
		return fmt.Errorf("pushing to %s: %w", named, err)
	}
	p := &push{client: c, ref: named, img: img, progress: progress}
	if p.session, err = c.open(ctx, sessionKey{endpoint: c.upstream(named.Host, named.Path), push: true}); err != nil {
		return fmt.Errorf("pushing to %s: %w", named, err)
	}
	if err := p.send(ctx, content); err != nil {
		return fmt.Errorf("pushing to %s: %w", named, err)
	}
	return nil
}

// content is what an image is made of.
type content struct {
	blobs []ocispec.Descriptor
	// manifests come in the order in which they can be sent: the root last.
	manifests []document
}

type document struct {
	desc ocispec.Descriptor
	data []byte
}

// contentOf lists the content of an image, each blob once.
func contentOf(ctx context.Context, img Source) (*content, error) {
	c := &content{}
	seen := map[digest.Digest]bool{}
	err := c.add(ctx, img, img.Root(), seen, 0)
	return c, err
}

func (c *content) add(ctx context.Context, img Source, desc ocispec.Descriptor, seen map[digest.Digest]bool, depth int) error {
	if seen[desc.Digest] {
		return nil
	}
	seen[desc.Digest] = true
	if depth > 4 {
		return fmt.Errorf("manifest %s: too many indexes are nested", desc.Digest)
	}
	data, err := readAll(ctx, img, desc)
	if err != nil {
		return err
	}
	var m struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	for _, child := range m.Manifests {
		if err := c.add(ctx, img, child, seen, depth+1); err != nil {
			return err
		}
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, b := range m.Layers {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			c.blobs = append(c.blobs, b)
		}
	}
	c.manifests = append(c.manifests, document{desc, data})
	return nil
}

func readAll(ctx context.Context, img Source, desc ocispec.Descriptor) ([]byte, error) {
	r, err := img.Open(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("manifest %s is damaged: it is %s", desc.Digest, got)
	}
	return data, nil
}

// push is one push under way.
type push struct {
	client   *Client
	ref      Ref
	session  *session
	img      Source
	progress func(event.Progress)
}

func (p *push) send(ctx context.Context, c *content) error {
	group, blobs := errgroup.WithContext(ctx)
	group.SetLimit(parallelUploads)
	for _, b := range c.blobs {
		group.Go(func() error {
			if err := p.blob(blobs, b); err != nil {
				return fmt.Errorf("blob %s: %w", b.Digest, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, m := range c.manifests {
		name := m.desc.Digest.String()
		if i == len(c.manifests)-1 && p.ref.Tag != "" {
			name = p.ref.Tag
		}
		if err := p.manifest(ctx, name, m); err != nil {
			return err
		}
	}
	return nil
}

// blob makes sure that the repository has a blob.
func (p *push) blob(ctx context.Context, desc ocispec.Descriptor) error {
	meter := newMeter(desc, p.progress)
	has, err := p.has(ctx, desc)
	if err != nil {
		return err
	}
	if !has {
		if err := p.upload(ctx, desc, meter); err != nil {
			return err
		}
	}
	meter.done()
	return nil
}

func (p *push) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	req, err := p.session.request(ctx, http.MethodHead, "blobs/"+desc.Digest.String())
	if err != nil {
		return false, err
	}
	resp, err := p.session.client.Do(req)
	if err != nil {
		return false, p.session.explain(err, nil)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK, http.StatusNotFound); err != nil {
		return false, p.session.explain(err, nil)
	}
	return resp.StatusCode == http.StatusOK, nil
}

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
	return wait, transport.CheckError(resp, http.StatusCreated, http.StatusNoContent, http.StatusOK)
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
		return "", nil
	}
	location, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("the registry did not say where to send a blob: %w", err)
	}
	return location.String(), nil
}

func (p *push) manifest(ctx context.Context, name string, m document) error {
	req, err := p.session.request(ctx, http.MethodPut, "manifests/"+name)
	if err != nil {
		return err
	}
	req.Body, _ = bodyOf(m.data)()
	req.GetBody = bodyOf(m.data)
	req.ContentLength = int64(len(m.data))
	req.Header.Set("Content-Type", m.desc.MediaType)
	resp, err := p.session.client.Do(req)
	if err != nil {
		return p.session.explain(err, nil)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK, http.StatusCreated, http.StatusAccepted); err != nil {
		return p.session.explain(err, nil)
	}
	return nil
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
