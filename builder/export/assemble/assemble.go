// Package assemble makes images of root file systems: configs with their histories,
// manifests and indexes. The same layers and configs give the same bytes everywhere.
package assemble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
)

// Part is what the image of one platform is made of.
type Part struct {
	Platform ocispec.Platform
	// Config is the image config as JSON, as the frontend made it: without
	// rootfs and times of the new history entries. Without one, the image
	// gets a config that says only the platform.
	Config []byte
	// BaseConfig is the config of the base image (JSON), if any: its
	// history keeps its times.
	BaseConfig []byte
	// Chain are the layers.
	Chain layers.Chain
	// Built is when this image was built for the first time. Without it (zero)
	// the image has the time of its last layer.
	Built time.Time
	// Epoch (seconds since 1970) is the latest time that may be in config,
	// history and files, but for those of the base image; optional.
	Epoch *int64
	// Attest returns what is attested of the image, which has these layers in its
	// manifest (none for files without a manifest); optional. It is called when all layers
	// are made.
	Attest func(ctx context.Context, layers layers.Chain) ([]attest.Attestation, error)
}

// PlatformOf is the platform that the config of a part says, or that of the part.
func PlatformOf(p Part) ocispec.Platform {
	var config ocispec.Image
	if json.Unmarshal(p.Config, &config) == nil && config.OS != "" && config.Architecture != "" {
		return platforms.Normalize(config.Platform)
	}
	return platforms.Normalize(p.Platform)
}

// Platforms are those of the images that parts make.
func Platforms(parts []Part) []ocispec.Platform {
	list := make([]ocispec.Platform, len(parts))
	for i, p := range parts {
		list[i] = PlatformOf(p)
	}
	return list
}

// Options say what the image of the same layers shall look like.
type Options struct {
	// DockerTypes uses Docker's media types (schema 2) in place of OCI's.
	DockerTypes bool
	// Index makes an index even for one platform.
	Index bool
	// Compression is that of all layers made here; with ForceCompression
	// also of those that were made elsewhere.
	Compression      archive.Compression
	ForceCompression bool
	// KeepTimes leaves the times of files as they are, also with an epoch, but
	// for those that have no time of their own.
	KeepTimes   bool
	Annotations annotation.List
	Attest      Attest
}

// Check refuses options that do not go together, or have no place in an image for
// these platforms.
func (o Options) Check(targets []ocispec.Platform) error {
	if o.DockerTypes && o.Compression.Type == archive.Zstd {
		return hint.Add(errors.New("compression=zstd does not go with Docker's media types (oci-mediatypes=false)"),
			"Docker's media types have no name for zstd: leave one of the two out")
	}
	if err := o.checkAttest(); err != nil {
		return err
	}
	return o.Annotations.Check(targets, o.hasIndex(len(targets)), o.DockerTypes)
}

// Image makes the image of parts, one for each platform: it writes configs,
// manifests and, for several platforms, an index into the store.
func Image(ctx context.Context, s *store.Store, parts []Part, o Options) (*stored.Image, error) {
	if len(parts) == 0 {
		return nil, errors.New("there is nothing to make an image of")
	}
	if err := o.Check(Platforms(parts)); err != nil {
		return nil, err
	}
	manifests := make([]stored.Manifest, len(parts))
	for i, p := range parts {
		var err error
		if manifests[i], err = assembleOne(ctx, s, p, o); err != nil {
			return nil, fmt.Errorf("assembling the image: %w", err)
		}
	}
	if !o.hasIndex(len(parts)) {
		return stored.New(s, manifests[0].Desc, manifests), nil
	}
	made, err := o.attested(ctx, s, parts, manifests)
	if err != nil {
		return nil, err
	}
	desc, err := putIndex(ctx, s, manifests, made, o)
	if err != nil {
		return nil, fmt.Errorf("assembling the image: %w", err)
	}
	return stored.New(s, desc, manifests, attachedTo(made)...), nil
}

func assembleOne(ctx context.Context, s *store.Store, img Part, o Options) (stored.Manifest, error) {
	img, chain, base, err := dropEmpty(img)
	if err != nil {
		return stored.Manifest{}, err
	}
	if chain, err = o.layersOf(ctx, s, chain, base, img.Epoch); err != nil {
		return stored.Manifest{}, err
	}
	config, err := finishConfig(img, chain)
	if err != nil {
		return stored.Manifest{}, err
	}
	var finished ocispec.Image
	if err := json.Unmarshal(config, &finished); err != nil {
		return stored.Manifest{}, fmt.Errorf("reading the image config: %w", err)
	}
	m := stored.ManifestOf(finished)
	m.Layers = chain
	manifestType, configType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	if o.DockerTypes {
		manifestType, configType = manifest.DockerManifest, manifest.DockerConfig
	}
	if m.Config, err = putBlob(ctx, s, config, configType); err != nil {
		return m, err
	}
	doc := ocispec.Manifest{
		Versioned: versioned, MediaType: manifestType, Config: m.Config,
		Annotations: o.Annotations.At(annotation.Manifest, &m.Platform),
		Layers:      []ocispec.Descriptor{},
	}
	for _, l := range chain {
		doc.Layers = append(doc.Layers, l.Descriptor)
	}
	if m.Desc, err = putJSON(ctx, s, doc, manifestType); err != nil {
		return m, err
	}
	m.Desc.Annotations = o.Annotations.At(annotation.ManifestDescriptor, &m.Platform)
	m.Desc.Platform = &m.Platform
	return m, nil
}

// parallelConversions is how many layers are brought into the wanted form at
// once; each uses all cores.
const parallelConversions = 2

// layersOf are the layers as they belong into the manifest. The first base of
// them are the base image's: their files keep their times.
func (o Options) layersOf(ctx context.Context, s *store.Store, chain layers.Chain, base int, epoch *int64) (layers.Chain, error) {
	out := make(layers.Chain, len(chain))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelConversions)
	for i, l := range chain {
		w := store.ConvertOptions{Compression: o.Compression, Force: o.ForceCompression}
		if i >= base && epoch != nil {
			w.Epoch = &layers.Epoch{Seconds: *epoch, Keep: o.KeepTimes}
		}
		group.Go(func() (err error) {
			// What Convert compares are OCI types.
			l.Descriptor.MediaType = layers.OCIType(l.Descriptor.MediaType)
			if err := s.CheckDiffID(ctx, l); err != nil {
				return err
			}
			if l, err = s.Convert(ctx, l, w); err != nil {
				return err
			}
			l.Descriptor = ocispec.Descriptor{
				MediaType: layerType(l.Descriptor.MediaType, o.DockerTypes),
				Digest:    l.Descriptor.Digest, Size: l.Descriptor.Size,
			}
			if o.DockerTypes && l.Descriptor.MediaType == ocispec.MediaTypeImageLayerZstd {
				return hint.Add(fmt.Errorf("layer %s is compressed with zstd, for which Docker's media types have no name", l.Descriptor.Digest),
					"leave oci-mediatypes=false out, or add compression=gzip,force-compression=true")
			}
			out[i] = l
			return nil
		})
	}
	return out, group.Wait()
}

// putBlob keeps a config, manifest or index. What is larger than anybody reads again
// is refused.
func putBlob(ctx context.Context, s *store.Store, data []byte, mediaType string) (ocispec.Descriptor, error) {
	if len(data) > manifest.MaxBytes {
		return ocispec.Descriptor{}, hint.Add(fmt.Errorf("the image's config or manifest has %d bytes, and must not have more than %d", len(data), manifest.MaxBytes),
			"long values of environment variables and labels belong in files of the image")
	}
	return s.Blobs.Add(ctx, data, mediaType)
}

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

// putIndex writes the index of manifests, and of what is attested of them.
func putIndex(ctx context.Context, s *store.Store, manifests []stored.Manifest, made []*attest.Manifest, o Options) (ocispec.Descriptor, error) {
	mediaType := ocispec.MediaTypeImageIndex
	if o.DockerTypes {
		mediaType = manifest.DockerIndex
	}
	index := ocispec.Index{
		Versioned: versioned, MediaType: mediaType,
		Annotations: o.Annotations.At(annotation.Index, nil),
	}
	for _, m := range manifests {
		index.Manifests = append(index.Manifests, m.Desc)
	}
	for _, m := range made {
		index.Manifests = append(index.Manifests, m.Descriptor)
	}
	desc, err := putJSON(ctx, s, index, mediaType)
	desc.Annotations = o.Annotations.At(annotation.IndexDescriptor, nil)
	return desc, err
}

func putJSON(ctx context.Context, s *store.Store, v any, mediaType string) (ocispec.Descriptor, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return putBlob(ctx, s, data, mediaType)
}
