package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
)

// Docker's media types, image manifest version 2, schema 2.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig       = "application/vnd.docker.container.image.v1+json"
)

var versioned = specs.Versioned{SchemaVersion: 2}

// maxManifest is the most that a manifest, index or config may have, in bytes.
const maxManifest = 16 << 20

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

// IsIndex reports whether a media type is that of an index, OCI's or Docker's.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerManifestList
}

// putIndex writes the index of several manifests.
func putIndex(ctx context.Context, s *store.Store, manifests []Manifest, o Options) (ocispec.Descriptor, error) {
	mediaType := ocispec.MediaTypeImageIndex
	if o.DockerTypes {
		mediaType = dockerManifestList
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
	if err := b.read(ctx, desc, 0); err != nil {
		return nil, fmt.Errorf("image %s: %w", desc.Digest, err)
	}
	b.remember()
	return b, nil
}

// maxNesting is how deep indexes may hold indexes.
const maxNesting = 4

func (b *Built) read(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("its indexes are nested more than %d deep", maxNesting)
	}
	data, err := ReadBlob(ctx, b.store, desc)
	if err != nil {
		return err
	}
	if IsIndex(desc.MediaType) {
		var index ocispec.Index
		if err := json.Unmarshal(data, &index); err != nil {
			return fmt.Errorf("reading index %s: %w", desc.Digest, err)
		}
		if depth > 0 {
			b.attached = append(b.attached, desc)
		}
		for _, d := range index.Manifests {
			if !b.store.Has(d) {
				b.Missing = append(b.Missing, d)
				continue
			}
			if err := b.read(ctx, d, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return fmt.Errorf("reading manifest %s: %w", desc.Digest, err)
	}
	if manifest.Config.MediaType != ocispec.MediaTypeImageConfig && manifest.Config.MediaType != dockerConfig || IsAttestation(desc) {
		b.attach(desc, manifest)
		return nil
	}
	return b.readManifest(ctx, desc, manifest)
}

// attach adds the blobs of what is not an image. It is missing as a whole where one
// of them is.
func (b *Built) attach(desc ocispec.Descriptor, manifest ocispec.Manifest) {
	blobs := append([]ocispec.Descriptor{manifest.Config}, manifest.Layers...)
	if slices.ContainsFunc(blobs, func(d ocispec.Descriptor) bool { return !b.store.Has(d) }) {
		b.Missing = append(b.Missing, desc)
		return
	}
	b.attached = append(append(b.attached, blobs...), desc)
}

// IsAttestation reports whether desc is that of a manifest which is not an image
// but about one of its index.
func IsAttestation(desc ocispec.Descriptor) bool {
	return desc.Annotations["vnd.docker.reference.type"] != "" || desc.Platform != nil && desc.Platform.OS == "unknown"
}

func (b *Built) readManifest(ctx context.Context, desc ocispec.Descriptor, manifest ocispec.Manifest) error {
	config, err := ReadBlob(ctx, b.store, manifest.Config)
	if err != nil {
		return err
	}
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return fmt.Errorf("reading config %s: %w", manifest.Config.Digest, err)
	}
	if len(img.RootFS.DiffIDs) != len(manifest.Layers) {
		return fmt.Errorf("manifest %s has %d layers, but its config names %d", desc.Digest, len(manifest.Layers), len(img.RootFS.DiffIDs))
	}
	if desc.Platform == nil {
		desc.Platform = &img.Platform
	}
	m := Manifest{Desc: desc, Config: manifest.Config, Platform: platformOf(img.Platform, config), Created: createdOf(config)}
	for i, d := range manifest.Layers {
		diffID := img.RootFS.DiffIDs[i]
		if err := diffID.Validate(); err != nil {
			return fmt.Errorf("config %s: diff ID %q: %w", manifest.Config.Digest, diffID, err)
		}
		m.Layers = append(m.Layers, b.store.Base(d, diffID))
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
	fits := platforms.Only(p)
	var best *Manifest
	for i, m := range b.Manifests {
		if fits.Match(m.Platform) && (best == nil || fits.Less(m.Platform, best.Platform)) {
			best = &b.Manifests[i]
		}
	}
	if best == nil {
		return nil, hint.Add(fmt.Errorf("image %s is not in the store for %s", b.Digest(), platforms.FormatAll(p)),
			"it is for "+strings.Join(b.Platforms(), ", "))
	}
	one := &Built{store: b.store, Desc: best.Desc, Manifests: []Manifest{*best}}
	one.remember()
	return one, nil
}

// ReadBlob returns a manifest, index or config of the store, verified.
func ReadBlob(ctx context.Context, s *store.Store, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxManifest {
		return nil, fmt.Errorf("blob %s: %d bytes are too many for a manifest or config", desc.Digest, desc.Size)
	}
	r, err := s.OpenBlob(ctx, layers.Layer{ID: layers.ID(desc.Digest.Encoded()), Descriptor: desc})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	return data, nil
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
