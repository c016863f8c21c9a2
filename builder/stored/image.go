// Package stored reads images of the store: what a manifest or an index consists of,
// and their blobs.
package stored

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
)

// Manifest is the image of one platform.
type Manifest struct {
	// Desc describes the manifest, Config the config.
	Desc, Config ocispec.Descriptor
	// Platform and Created are what the config says; zero when it does not.
	Platform ocispec.Platform
	Created  time.Time
	// Layers have the descriptors that are in the manifest.
	Layers layers.Chain
}

// ManifestOf is the manifest of an image with this config, without its descriptors.
func ManifestOf(config ocispec.Image) Manifest {
	m := Manifest{Platform: platforms.Normalize(config.Platform)}
	if config.Created != nil {
		m.Created = *config.Created
	}
	return m
}

// Image is a complete image in a store: a manifest, or an index with several.
// It is what registry.Client.Push takes.
type Image struct {
	// Desc describes the index or the only manifest.
	Desc      ocispec.Descriptor
	Manifests []Manifest
	// Missing are manifests of an index that the store has not.
	Missing []ocispec.Descriptor

	// Store has the blobs.
	Store *store.Store
	// attached are blobs of manifests that are not images (attestations).
	attached []ocispec.Descriptor
	byDigest map[digest.Digest]layers.Layer
}

// Digest is that of the index or the only manifest.
func (b *Image) Digest() digest.Digest { return b.Desc.Digest }

// Root describes the index or the only manifest.
func (b *Image) Root() ocispec.Descriptor { return b.Desc }

// Created is when the youngest of the images was made.
func (b *Image) Created() time.Time {
	var last time.Time
	for _, m := range b.Manifests {
		if m.Created.After(last) {
			last = m.Created
		}
	}
	return last
}

// Size is the length of all distinct blobs together, in bytes.
func (b *Image) Size() int64 {
	var n int64
	for _, d := range b.Blobs() {
		n += d.Size
	}
	return n
}

// Blobs describes every blob of the image once: layers first, the root last, so
// that whoever copies them in this order never has a manifest without what it
// names.
func (b *Image) Blobs() []ocispec.Descriptor {
	var list []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	add := func(d ocispec.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			list = append(list, d)
		}
	}
	for _, m := range b.Manifests {
		for _, l := range m.Layers {
			add(l.Descriptor)
		}
	}
	for _, m := range b.Manifests {
		add(m.Config)
	}
	for _, d := range b.attached {
		add(d)
	}
	for _, m := range b.Manifests {
		add(m.Desc)
	}
	add(b.Desc)
	return list
}

// Open returns the bytes of a blob; a base layer that is not in the store is
// got, and must have the diff ID that its image claims. The reader fails at its end
// when the bytes are not those of the digest.
func (b *Image) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	l, ok := b.byDigest[desc.Digest]
	if !ok {
		l = layers.Layer{ID: layers.ID(desc.Digest.Encoded()), Descriptor: desc}
	}
	l.Descriptor = desc
	r, err := b.Store.OpenBlob(ctx, l)
	if err != nil {
		return nil, err
	}
	// A base layer may have come only now.
	if err := b.Store.CheckDiffID(ctx, l); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Origins are repositories that are known to have the blob.
func (b *Image) Origins(d digest.Digest) []string { return b.byDigest[d].Origins }

// New returns the image that desc describes, whose manifests are in the store. attached
// are the blobs of what in its index is not an image, those that others name first.
func New(s *store.Store, desc ocispec.Descriptor, manifests []Manifest, attached ...ocispec.Descriptor) *Image {
	b := &Image{Store: s, Desc: desc, Manifests: manifests, attached: attached}
	b.remember()
	return b
}

func (b *Image) remember() {
	b.byDigest = map[digest.Digest]layers.Layer{}
	for _, m := range b.Manifests {
		for _, l := range m.Layers {
			b.byDigest[l.Descriptor.Digest] = l
		}
	}
}
