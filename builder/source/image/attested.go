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

// Root is what a reference stands for.
type Root struct {
	ref  registry.Ref
	desc ocispec.Descriptor
	// index is nil if it is a manifest.
	index *manifest.Document
}

// Root finds what ref stands for. pulled is a platform for which the image is in the store.
func (f *Finder) Root(ctx context.Context, ref string, pulled ocispec.Platform) (Root, error) {
	named, err := registry.ParseRef(ref)
	if err != nil {
		return Root{}, err
	}
	desc, _, err := f.open(ctx, named, &pulled, false)
	if err != nil || !manifest.IsIndex(desc.MediaType) {
		return Root{ref: named, desc: desc}, err
	}
	data, err := f.blob(ctx, named, desc)
	if err != nil {
		return Root{}, err
	}
	index, err := manifest.Parse(desc, data)
	return Root{named, desc, index}, err
}

// Attestations keeps the manifests and configs of what root's index attests of its images,
// as far as these are in the store. It returns the layers of the attestations, which are to
// be fetched, and those attestations that refer to their image by themselves, and so can go
// with it without the index.
func (f *Finder) Attestations(ctx context.Context, root Root) (list []layers.Layer, referring []manifest.Referrer, err error) {
	if root.index == nil {
		return nil, nil, nil
	}
	inIndex := map[digest.Digest]ocispec.Descriptor{}
	for _, d := range root.index.Manifests {
		if _, known := inIndex[d.Digest]; !known {
			inIndex[d.Digest] = d
		}
	}
	for _, d := range root.index.Manifests {
		if !f.isAttested(inIndex, d) {
			continue
		}
		m, err := f.attestation(ctx, root.ref, d)
		if err != nil {
			return nil, nil, fmt.Errorf("attestation %s: %w", d.Digest, err)
		}
		if m.Subject != nil && m.Subject.Digest.String() == d.Annotations[manifest.ReferenceDigest] {
			referring = append(referring, manifest.Referrer{Subject: m.Subject.Digest, Desc: m.Referrer()})
		}
		for _, b := range m.Layers {
			list = append(list, layers.Layer{
				ID: layers.ID(b.Digest.Encoded()), Descriptor: b, Origins: []string{root.ref.Repository()},
			})
		}
	}
	return list, referring, nil
}

// isAttested reports whether d attests something of an image of its index that is in the
// store.
func (f *Finder) isAttested(index map[digest.Digest]ocispec.Descriptor, d ocispec.Descriptor) bool {
	subject, ok := index[digest.Digest(d.Annotations[manifest.ReferenceDigest])]
	return ok && d.Annotations[manifest.ReferenceType] != "" && manifest.IsImage(d.MediaType) && f.store.Blobs.Has(subject)
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
