package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// Servers that are not registries, such as login pages, may answer success to
// every request. A success counts when it names the digest; otherwise the blob or
// manifest must be there afterwards.

// describes reports whether the answer to HEAD is about the blob: it has its
// digest, or at least its length.
func describes(resp *http.Response, desc ocispec.Descriptor) bool {
	if said := resp.Header.Get(digestHeader); said != "" {
		return said == desc.Digest.String()
	}
	return resp.ContentLength == desc.Size
}

// mounted reports whether the registry mounted a blob, as it answered.
func (p *push) mounted(ctx context.Context, resp *http.Response, desc ocispec.Descriptor) (bool, error) {
	d := desc.Digest.String()
	if resp.Header.Get(digestHeader) == d || strings.Contains(resp.Header.Get("Location"), d) {
		return true, nil
	}
	return p.has(ctx, desc)
}

// confirmBlob fails unless the registry has the blob whose upload it accepted.
func (p *push) confirmBlob(ctx context.Context, resp *http.Response, desc ocispec.Descriptor) error {
	said := resp.Header.Get(digestHeader)
	if resp.StatusCode == http.StatusCreated && (said == "" || said == desc.Digest.String()) {
		return nil
	}
	has, err := p.has(ctx, desc)
	if err == nil && !has {
		err = p.unconfirmed(resp, "the blob "+desc.Digest.String())
	}
	return err
}

// confirmManifest is confirmBlob for the manifest at a tag or digest.
func (p *push) confirmManifest(ctx context.Context, resp *http.Response, name string, m *manifest.Document) error {
	said, want := resp.Header.Get(digestHeader), m.Desc.Digest.String()
	if said == want || said == "" && resp.StatusCode == http.StatusCreated {
		return nil
	}
	holds, err := p.holds(ctx, name, m)
	if err != nil && !errors.Is(err, errNotRegistry) && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("looking for the manifest after the push: %w", err)
	}
	if !holds {
		return p.unconfirmed(resp, "the manifest "+want)
	}
	return nil
}

// holds reports whether a tag or digest stands for the manifest.
func (p *push) holds(ctx context.Context, name string, m *manifest.Document) (bool, error) {
	at := p.ref
	at.Tag, at.Digest = name, ""
	if name == m.Desc.Digest.String() {
		at.Tag, at.Digest = "", m.Desc.Digest
	}
	got, _, err := p.session.manifest(ctx, at)
	return err == nil && got.Digest == m.Desc.Digest, err
}

// heldAnyway reports whether a registry that refused a manifest has it under that name:
// it was pushed before, and tags cannot be replaced there, not even by what they stand
// for. BuildKit asks before it sends one.
func (p *push) heldAnyway(ctx context.Context, refusal *transport.Error, name string, m *manifest.Document) bool {
	if refusal == nil || refusal.StatusCode < 400 || refusal.StatusCode >= 500 {
		return false
	}
	holds, err := p.holds(ctx, name, m)
	return err == nil && holds
}

func (p *push) unconfirmed(resp *http.Response, what string) error {
	return &Error{
		Msg:  fmt.Sprintf("the registry %s answered %q to the upload of %s but did not store it", p.session.host, resp.Status, what),
		Hint: notRegistryHint,
	}
}
