// Package export makes images of root file systems and brings them where they
// are wanted: the store, a registry, an OCI layout, an archive for docker, a
// directory, a tar.
//
// The invariant: the same layers and configs give the same bytes everywhere, and
// what stands under its final name is complete. The package does not know how
// layers came about (builder) nor how a registry is spoken to
// (builder/registry).
package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
)

// Image is what an image of one platform is made of.
type Image struct {
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
	Annotations Annotations
}

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

// Built is a complete image in a store: a manifest, or an index with several.
// It is what registry.Client.Push takes.
type Built struct {
	// Desc describes the index or the only manifest.
	Desc      ocispec.Descriptor
	Manifests []Manifest
	// Missing are manifests of an index that the store has not.
	Missing []ocispec.Descriptor

	store *store.Store
	// attached are blobs of manifests that are no images (attestations).
	attached []ocispec.Descriptor
	byDigest map[digest.Digest]layers.Layer
}

// Digest is that of the index or the only manifest.
func (b *Built) Digest() digest.Digest { return b.Desc.Digest }

// Root describes the index or the only manifest.
func (b *Built) Root() ocispec.Descriptor { return b.Desc }

// Created is when the youngest of the images was made.
func (b *Built) Created() time.Time {
	var last time.Time
	for _, m := range b.Manifests {
		if m.Created.After(last) {
			last = m.Created
		}
	}
	return last
}

// Size is the length of all distinct blobs together, in bytes.
func (b *Built) Size() int64 {
	var n int64
	for _, d := range b.Blobs() {
		n += d.Size
	}
	return n
}

// Blobs describes every blob of the image once: layers first, the root last, so
// that whoever copies them in this order never has a manifest without what it
// names.
func (b *Built) Blobs() []ocispec.Descriptor {
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
func (b *Built) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	l, ok := b.byDigest[desc.Digest]
	if !ok {
		l = layers.Layer{ID: layers.ID(desc.Digest.Encoded()), Descriptor: desc}
	}
	l.Descriptor = desc
	r, err := b.store.OpenBlob(ctx, l)
	if err != nil {
		return nil, err
	}
	// A base layer may have come only now.
	if err := b.store.CheckDiffID(ctx, l); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Origins are repositories that are known to have the blob.
func (b *Built) Origins(d digest.Digest) []string { return b.byDigest[d].Origins }

func (b *Built) remember() {
	b.byDigest = map[digest.Digest]layers.Layer{}
	for _, m := range b.Manifests {
		for _, l := range m.Layers {
			b.byDigest[l.Descriptor.Digest] = l
		}
	}
}

// Assemble makes the image of imgs, one for each platform: it writes configs,
// manifests and, for several platforms, an index into the store.
func Assemble(ctx context.Context, s *store.Store, imgs []Image, o Options) (*Built, error) {
	if len(imgs) == 0 {
		return nil, errors.New("there is nothing to make an image of")
	}
	if err := o.check(platformsOf(imgs)); err != nil {
		return nil, err
	}
	b := &Built{store: s}
	for _, img := range imgs {
		m, err := assembleOne(ctx, s, img, o)
		if err != nil {
			return nil, fmt.Errorf("assembling the image: %w", err)
		}
		b.Manifests = append(b.Manifests, m)
	}
	b.Desc = b.Manifests[0].Desc
	if len(imgs) > 1 || o.Index {
		var err error
		if b.Desc, err = putIndex(ctx, s, b.Manifests, o); err != nil {
			return nil, fmt.Errorf("assembling the image: %w", err)
		}
	}
	b.remember()
	return b, nil
}

func assembleOne(ctx context.Context, s *store.Store, img Image, o Options) (Manifest, error) {
	img, chain, base, err := dropEmpty(img)
	if err != nil {
		return Manifest{}, err
	}
	if chain, err = o.layersOf(ctx, s, chain, base, img.Epoch); err != nil {
		return Manifest{}, err
	}
	config, err := finishConfig(img, chain)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Platform: platformOf(img.Platform, config), Created: createdOf(config), Layers: chain}
	manifestType, configType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	if o.DockerTypes {
		manifestType, configType = manifest.DockerManifest, manifest.DockerConfig
	}
	if m.Config, err = putBlob(ctx, s, config, configType); err != nil {
		return m, err
	}
	doc := ocispec.Manifest{
		Versioned: versioned, MediaType: manifestType, Config: m.Config,
		Annotations: o.Annotations.of(annotateManifest, &m.Platform),
		Layers:      []ocispec.Descriptor{},
	}
	for _, l := range chain {
		doc.Layers = append(doc.Layers, l.Descriptor)
	}
	if m.Desc, err = putJSON(ctx, s, doc, manifestType); err != nil {
		return m, err
	}
	m.Desc.Annotations = o.Annotations.of(annotateManifestDescriptor, &m.Platform)
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
		w := store.Wanted{Compression: o.Compression, Force: o.ForceCompression}
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
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, s.PutBlob(ctx, desc, bytes.NewReader(data))
}
