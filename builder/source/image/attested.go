package image

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
)

// Attestations keeps the manifests and configs of what the index that ref names
// attests of its images, as far as these are in the store; that for the platform
// pulled is. It returns the layers of the attestations, which are to be fetched, and those
// attestations that refer to their image by themselves, and so can go with it without the
// index.
func (f *Finder) Attestations(ctx context.Context, ref string, pulled ocispec.Platform) (list []layers.Layer, referring []manifest.Referrer, err error) {
	named, err := registry.ParseRef(ref)
	if err != nil {
		return nil, nil, err
	}
	desc, _, err := f.open(ctx, named, &pulled, false)
	if err != nil || !manifest.IsIndex(desc.MediaType) {
		return nil, nil, err
	}
	data, err := f.blob(ctx, named, desc)
	if err != nil {
		return nil, nil, err
	}
	index, err := manifest.Parse(desc, data)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range index.Manifests {
		if !f.isAttested(index, d) {
			continue
		}
		m, err := f.attestation(ctx, named, d)
		if err != nil {
			return nil, nil, fmt.Errorf("attestation %s: %w", d.Digest, err)
		}
		if m.Subject != nil && m.Subject.Digest.String() == d.Annotations[manifest.ReferenceDigest] {
			referring = append(referring, manifest.Referrer{Subject: m.Subject.Digest, Desc: m.Referrer()})
		}
		for _, b := range m.Layers {
			list = append(list, layers.Layer{
				ID: layers.ID(b.Digest.Encoded()), Descriptor: b, Origins: []string{named.Repository()},
			})
		}
	}
	return list, referring, nil
}

// isAttested reports whether d attests something of an image of the index that is
// in the store.
func (f *Finder) isAttested(index *manifest.Document, d ocispec.Descriptor) bool {
	subject := digest.Digest(d.Annotations[manifest.ReferenceDigest])
	if d.Annotations[manifest.ReferenceType] == "" || !manifest.IsImage(d.MediaType) {
		return false
	}
	for _, m := range index.Manifests {
		if m.Digest == subject {
			return f.store.Blobs.Has(m)
		}
	}
	return false
}

// attestation keeps the manifest of one and its config.
func (f *Finder) attestation(ctx context.Context, ref registry.Ref, d ocispec.Descriptor) (*manifest.Document, error) {
	data, err := f.blob(ctx, ref, d)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(d, data)
	if err == nil && m.Config != nil {
		_, err = f.blob(ctx, ref, *m.Config)
	}
	return m, err
}
