package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/progress"
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
// does a name stand for an image that is not whole. report may be nil; it
// gets an event for each blob as it moves, and is called from several
// goroutines.
func (c *Client) Push(ctx context.Context, ref string, img Source, report func(progress.Update)) error {
	named, err := ParseRef(ref)
	if err != nil {
		return err
	}
	root := img.Root()
	if named.Digest != "" && named.Digest != root.Digest {
		return fmt.Errorf("pushing to %s: the image has another digest: %s", named, root.Digest)
	}
	if report == nil {
		report = func(progress.Update) {}
	}
	content, err := contentOf(ctx, img)
	if err != nil {
		return fmt.Errorf("pushing to %s: %w", named, err)
	}
	p := &push{client: c, ref: named, img: img, report: report}
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
	manifests []*manifest.Document
}

// contentOf lists the content of an image, each blob once.
func contentOf(ctx context.Context, img Source) (*content, error) {
	c := &content{}
	seen := map[digest.Digest]bool{}
	isNew := func(d ocispec.Descriptor) (bool, error) {
		old := seen[d.Digest]
		seen[d.Digest] = true
		return !old, nil
	}
	err := manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return readManifest(ctx, img, d) },
		Want: isNew,
		Visit: func(d *manifest.Document) error {
			for _, b := range d.Blobs() {
				if add, _ := isNew(b); add {
					c.blobs = append(c.blobs, b)
				}
			}
			c.manifests = append(c.manifests, d)
			return nil
		},
	}.Walk(img.Root())
	return c, err
}

func readManifest(ctx context.Context, img Source, desc ocispec.Descriptor) ([]byte, error) {
	r, err := img.Open(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	data, err := manifest.Read(r, desc)
	return data, errors.Join(err, r.Close())
}

// push is one push under way.
type push struct {
	client  *Client
	ref     Ref
	session *session
	img     Source
	report  func(progress.Update)
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
		name := m.Desc.Digest.String()
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
	meter := progress.NewMeter(progress.Update{ID: "pushing " + desc.Digest.String(), Total: desc.Size}, p.report)
	has, err := p.has(ctx, desc)
	if err != nil {
		return err
	}
	if !has {
		if err := p.upload(ctx, desc, meter); err != nil {
			return err
		}
	}
	meter.Set(desc.Size)
	meter.Done()
	return nil
}

// has reports whether the repository has a blob. One that it cannot be asked about, or
// that the user may not ask about, counts as missing: the upload that follows is refused
// with a reason, which answers to HEAD do not have.
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
	known := append(headless[:], http.StatusOK, http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden)
	if err := checkStatus(resp, known...); err != nil {
		return false, p.session.explain(err, nil)
	}
	return resp.StatusCode == http.StatusOK && describes(resp, desc), nil
}

// manifest sends a manifest. One that arrived damaged, or came before the registry
// knew of its blobs, is sent again. One that is refused need not be sent if it is there.
// One with a subject is among the referrers of that afterwards.
func (p *push) manifest(ctx context.Context, name string, m *manifest.Document) error {
	// What stands in the index of its subject is found there, also by readers without
	// referrers: it needs no tag.
	policy, listed := &p.client.retry, m.Subject == nil || m.Desc.Annotations[manifest.ReferenceType] != ""
	err := policy.Retry(ctx, func(n int) (again bool, asked time.Duration, err error) {
		header, err := p.putManifest(ctx, name, m)
		listed = listed || header.Get(subjectHeader) != ""
		var answer *transport.Error
		switch {
		case errors.As(err, &answer) && isMixedUp(answer) && n < policy.few():
			return true, 0, err
		case p.heldAnyway(ctx, answer, name, m):
			return false, 0, nil
		}
		return false, 0, p.session.explain(err, nil)
	})
	if err == nil && !listed {
		err = p.noteReferrer(ctx, m)
	}
	return err
}

// putManifest sends a manifest once, and returns the header of the answer.
func (p *push) putManifest(ctx context.Context, name string, m *manifest.Document) (http.Header, error) {
	req, err := p.session.request(ctx, http.MethodPut, "manifests/"+name)
	if err != nil {
		return nil, err
	}
	req.Body, _ = bodyOf(m.Data)()
	req.GetBody = bodyOf(m.Data)
	req.ContentLength = int64(len(m.Data))
	req.Header.Set("Content-Type", m.Desc.MediaType)
	resp, err := p.session.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := checkStatus(resp, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent); err != nil {
		return nil, err
	}
	return resp.Header, p.confirmManifest(ctx, resp, name, m)
}
