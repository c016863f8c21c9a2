package export

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
)

var versioned = specs.Versioned{SchemaVersion: 2}

// layerType is the name that OCI, or Docker, has for a layer's media type of OCI's.
// One that Docker has no name for stays.
func layerType(mediaType string, docker bool) string {
	switch {
	case docker && mediaType == ocispec.MediaTypeImageLayer:
		return layers.DockerLayer
	case docker && mediaType == ocispec.MediaTypeImageLayerGzip:
		return layers.DockerLayerGzip
	}
	return mediaType
}

// putIndex writes the index of several manifests.
func putIndex(ctx context.Context, s *store.Store, manifests []Manifest, o Options) (ocispec.Descriptor, error) {
	mediaType := ocispec.MediaTypeImageIndex
	if o.DockerTypes {
		mediaType = manifest.DockerIndex
	}
	index := ocispec.Index{
		Versioned: versioned, MediaType: mediaType,
		Annotations: o.Annotations.of(annotateIndex, nil),
	}
	for _, m := range manifests {
		index.Manifests = append(index.Manifests, m.Desc)
	}
	desc, err := putJSON(ctx, s, index, mediaType)
	desc.Annotations = o.Annotations.of(annotateIndexDescriptor, nil)
	return desc, err
}

func putJSON(ctx context.Context, s *store.Store, v any, mediaType string) (ocispec.Descriptor, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return putBlob(ctx, s, data, mediaType)
}

// Stored is an image whose manifest or index is in the store. Of an index that
// was pulled, the manifests of other platforms may not be there: see Missing.
func Stored(ctx context.Context, s *store.Store, desc ocispec.Descriptor) (*Built, error) {
	b := &Built{store: s, Desc: desc}
	if err := s.ClaimImage(desc.Digest); err != nil {
		return nil, err
	}
	if err := b.read(ctx, desc); err != nil {
		return nil, fmt.Errorf("image %s: %w", desc.Digest, err)
	}
	b.remember()
	return b, nil
}

func (b *Built) read(ctx context.Context, root ocispec.Descriptor) error {
	return manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return ReadBlob(ctx, b.store, d) },
		Want: func(d ocispec.Descriptor) (bool, error) {
			has := b.store.Has(d)
			if !has {
				b.Missing = append(b.Missing, d)
			}
			return has, nil
		},
		Visit: func(d *manifest.Document) error {
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
		},
	}.Walk(root)
}

// attach adds the blobs of what is not an image. It is missing as a whole where one
// of them is.
func (b *Built) attach(d *manifest.Document) {
	blobs := d.Blobs()
	if slices.ContainsFunc(blobs, func(d ocispec.Descriptor) bool { return !b.store.Has(d) }) {
		b.Missing = append(b.Missing, d.Desc)
		return
	}
	b.attached = append(append(b.attached, blobs...), d.Desc)
}

func (b *Built) readManifest(ctx context.Context, d *manifest.Document) error {
	config, err := ReadBlob(ctx, b.store, *d.Config)
	if err != nil {
		return err
	}
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return fmt.Errorf("reading config %s: %w", d.Config.Digest, err)
	}
	if len(img.RootFS.DiffIDs) != len(d.Layers) {
		return fmt.Errorf("manifest %s has %d layers, but its config names %d", d.Desc.Digest, len(d.Layers), len(img.RootFS.DiffIDs))
	}
	desc := d.Desc
	if desc.Platform == nil {
		desc.Platform = &img.Platform
	}
	m := Manifest{Desc: desc, Config: *d.Config, Platform: platformOf(img.Platform, config), Created: createdOf(config)}
	for i, l := range d.Layers {
		diffID := img.RootFS.DiffIDs[i]
		if err := diffID.Validate(); err != nil {
			return fmt.Errorf("config %s: diff ID %q: %w", d.Config.Digest, diffID, err)
		}
		m.Layers = append(m.Layers, b.store.Base(l, diffID))
	}
	b.Manifests = append(b.Manifests, m)
	return nil
}

// Platforms are those of the images, as people write them.
func (b *Built) Platforms() []string {
	list := make([]string, len(b.Manifests))
	for i, m := range b.Manifests {
		list[i] = platforms.FormatAll(m.Platform)
	}
	return list
}

// Only is the image of one platform of b: the manifest of that which fits it
// best.
func (b *Built) Only(p ocispec.Platform) (*Built, error) {
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
	one := &Built{store: b.store, Desc: best.Desc, Manifests: []Manifest{best}}
	one.remember()
	return one, nil
}

// ReadBlob returns a manifest, index or config of the store, verified.
func ReadBlob(ctx context.Context, s *store.Store, desc ocispec.Descriptor) ([]byte, error) {
	r, err := s.OpenBlob(ctx, layers.Layer{ID: layers.ID(desc.Digest.Encoded()), Descriptor: desc})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return manifest.Read(r, desc)
}

// platformOf is what the config says of the platform, or p.
func platformOf(p ocispec.Platform, config []byte) ocispec.Platform {
	var img ocispec.Image
	if json.Unmarshal(config, &img) == nil && img.OS != "" && img.Architecture != "" {
		p = img.Platform
	}
	return platforms.Normalize(p)
}

// createdOf is when the config says that the image was made.
func createdOf(config []byte) time.Time {
	var img ocispec.Image
	if json.Unmarshal(config, &img) != nil || img.Created == nil {
		return time.Time{}
	}
	return *img.Created
}
