package stored

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
)

// Open reads the image whose manifest or index is in the store. Of an index that
// was pulled, the manifests of other platforms may not be there: see Missing.
func Open(ctx context.Context, s *store.Store, desc ocispec.Descriptor) (*Image, error) {
	b := &Image{Store: s, Desc: desc}
	if err := s.ClaimImage(desc.Digest); err != nil {
		return nil, err
	}
	if err := b.read(ctx, desc); err != nil {
		return nil, fmt.Errorf("image %s: %w", desc.Digest, err)
	}
	b.remember()
	return b, nil
}

func (b *Image) read(ctx context.Context, root ocispec.Descriptor) error {
	return b.walk(ctx, root, func(d *manifest.Document) error {
		switch {
		case d.IsIndex() && d.Desc.Digest == root.Digest:
			return nil
		case d.IsIndex():
			b.attached = append(b.attached, d.Desc)
			return nil
		case d.Config == nil || !manifest.IsConfig(d.Config.MediaType) || manifest.IsAttestation(d.Desc):
			b.attach(d)
			return nil
		}
		return b.readManifest(ctx, d)
	})
}

// walk visits the manifests and indexes below root that are in the store; others are
// Missing.
func (b *Image) walk(ctx context.Context, root ocispec.Descriptor, visit func(*manifest.Document) error) error {
	return manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return b.Read(ctx, d) },
		Want: func(d ocispec.Descriptor) (bool, error) {
			has := b.Store.Blobs.Has(d)
			if !has {
				b.Missing = append(b.Missing, d)
			}
			return has, nil
		},
		Visit: visit,
	}.Walk(root)
}

// attach adds the blobs of what is not an image. It is missing as a whole where one
// of them is.
func (b *Image) attach(d *manifest.Document) {
	blobs := d.Blobs()
	if slices.ContainsFunc(blobs, func(d ocispec.Descriptor) bool { return !b.Store.Blobs.Has(d) }) {
		b.Missing = append(b.Missing, d.Desc)
		return
	}
	b.attached = append(append(b.attached, blobs...), d.Desc)
}

func (b *Image) readManifest(ctx context.Context, d *manifest.Document) error {
	config, err := b.Read(ctx, *d.Config)
	if err != nil {
		return err
	}
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return fmt.Errorf("reading config %s: %w", d.Config.Digest, err)
	}
	if err := d.CheckConfig(img); err != nil {
		return err
	}
	desc := d.Desc
	if desc.Platform == nil {
		desc.Platform = &img.Platform
	}
	m := ManifestOf(img)
	m.Desc, m.Config = desc, *d.Config
	for i, l := range d.Layers {
		m.Layers = append(m.Layers, b.Store.Base(l, img.RootFS.DiffIDs[i]))
	}
	b.Manifests = append(b.Manifests, m)
	return nil
}

// Platforms are those of the images, as people write them.
func (b *Image) Platforms() []string {
	list := make([]string, len(b.Manifests))
	for i, m := range b.Manifests {
		list[i] = platforms.FormatAll(m.Platform)
	}
	return list
}

// Only is the image of one platform of b: the manifest of that which fits it
// best.
func (b *Image) Only(p ocispec.Platform) (*Image, error) {
	list := make([]ocispec.Platform, len(b.Manifests))
	for i, m := range b.Manifests {
		list[i] = m.Platform
	}
	at, ok := manifest.Best(p, list)
	if !ok {
		return nil, hint.Add(fmt.Errorf("image %s is not in the store for %s", b.Digest(), platforms.FormatAll(p)),
			"it is for "+strings.Join(b.Platforms(), ", "))
	}
	best := b.Manifests[at]
	return New(b.Store, best.Desc, []Manifest{best}), nil
}

// Read returns a manifest, index or config of the image, verified.
func (b *Image) Read(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return ReadBlob(ctx, b.Store, desc)
}

// ReadBlob returns a manifest, index or config of the store, verified.
func ReadBlob(ctx context.Context, s *store.Store, desc ocispec.Descriptor) ([]byte, error) {
	r, err := s.Blobs.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return manifest.Read(r, desc)
}
