package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
func (p *push) confirmManifest(ctx context.Context, resp *http.Response, name string, m document) error {
	said, want := resp.Header.Get(digestHeader), m.desc.Digest.String()
	if said == want || said == "" && resp.StatusCode == http.StatusCreated {
		return nil
	}
	at := p.ref
	at.Tag, at.Digest = name, ""
	if name == want {
		at.Tag, at.Digest = "", m.desc.Digest
	}
	got, _, err := p.session.manifest(ctx, at)
	if err != nil && !errors.Is(err, errNotRegistry) && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("looking for the manifest after the push: %w", err)
	}
	if got.Digest != m.desc.Digest {
		return p.unconfirmed(resp, "the manifest "+want)
	}
	return nil
}

func (p *push) unconfirmed(resp *http.Response, what string) error {
	return &Error{
		Msg:  fmt.Sprintf("the registry %s answered %q to the upload of %s but did not store it", p.session.host, resp.Status, what),
		Hint: notRegistryHint,
	}
}
