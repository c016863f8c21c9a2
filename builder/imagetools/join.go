// Package imagetools makes an image of images in registries and OCI layouts: an index of
// several platforms, or a copy.
//
// It downloads only manifests and configs. Layers that a repository lacks are copied
// or mounted when the new image is pushed, and so is what refers to it. It does not make
// images of layers: package export does.
package imagetools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
)

// Source is an image that is to be part of another.
type Source struct {
	Place
	// Desc, where it says something, is how the new index shall describe
	// the image: its media type, platform and annotations. Its size, if not
	// 0, must be right.
	Desc ocispec.Descriptor
}

// Options say what is made of the sources.
type Options struct {
	// KeepManifest makes a copy of a single image that is not an index, in place
	// of an index of one.
	KeepManifest bool
	// Annotations can be those of the index and of its descriptors.
	Annotations annotation.List
	// Platforms leaves out all others; nil leaves out none.
	Platforms []ocispec.Platform
}

// read is a source whose manifest has been read.
type read struct {
	desc ocispec.Descriptor
	from Place
	data []byte
}

// Join makes one image of sources. It is not pushed yet.
func Join(ctx context.Context, client *registry.Client, sources []Source, o Options) (*Image, error) {
	if len(sources) == 0 {
		return nil, errors.New("there is nothing to make an image of")
	}
	list := make([]read, len(sources))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, s := range sources {
		group.Go(func() (err error) {
			list[i], err = fetch(groupCtx, client, s)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	img := newImage(client)
	root, err := o.root(list)
	if err != nil {
		return nil, err
	}
	if root, err = o.filter(root); err != nil {
		return nil, err
	}
	img.root = root.desc
	img.add(root)
	for _, r := range list {
		img.add(r)
		img.noteAt(r.desc.Digest, r.from)
	}
	return img, nil
}

// fetch reads a source's manifest and finds what the index shall say of it.
func fetch(ctx context.Context, client *registry.Client, s Source) (read, error) {
	desc, data, err := s.resolve(ctx, client)
	if err != nil {
		return read{}, err
	}
	if s.Desc.Size != 0 && s.Desc.Size != desc.Size {
		return read{}, fmt.Errorf("%s has %d bytes, not the %d of its descriptor", s.Place, desc.Size, s.Desc.Size)
	}
	if s.Desc.MediaType != "" {
		desc.MediaType = s.Desc.MediaType
	}
	desc.Annotations, desc.ArtifactType = s.Desc.Annotations, s.Desc.ArtifactType
	if p := s.Desc.Platform; p != nil {
		given := *p
		desc.Platform = &given
	}
	r := read{desc: desc, from: s.Place, data: data}
	if manifest.IsIndex(desc.MediaType) {
		return r, nil
	}
	return r, r.addPlatform(ctx, client)
}

// addPlatform takes from the config what the descriptor does not say of the
// platform.
func (r *read) addPlatform(ctx context.Context, client *registry.Client) error {
	p := r.desc.Platform
	if p != nil && p.OS != "" && p.Architecture != "" {
		return nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(r.data, &m); err != nil {
		return fmt.Errorf("reading the manifest of %s: %w", r.from, err)
	}
	config, err := r.from.read(ctx, client, m.Config)
	if err != nil {
		return err
	}
	var known ocispec.Platform
	if err := json.Unmarshal(config, &known); err != nil {
		return fmt.Errorf("reading the config of %s: %w", r.from, err)
	}
	known = platforms.Normalize(known)
	if p == nil {
		if known.OS != "" && known.Architecture != "" {
			r.desc.Platform = &known
		}
		return nil
	}
	if p.Architecture == "" {
		p.Architecture = known.Architecture
		if p.Variant == "" {
			p.Variant = known.Variant
		}
	}
	if p.OS == "" {
		p.OS = known.OS
	}
	return nil
}

// root is the new image's index, or the manifest of the only source.
func (o Options) root(list []read) (read, error) {
	single := len(list) == 1
	if single && len(o.Annotations) == 0 && (o.KeepManifest || manifest.IsIndex(list[0].desc.MediaType)) {
		// What is taken over as it is has no descriptor around it.
		copied := list[0]
		copied.desc.Annotations, copied.desc.ArtifactType = nil, ""
		return copied, nil
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	places := map[digest.Digest]int{}
	add := func(d ocispec.Descriptor) {
		if i, ok := places[d.Digest]; ok {
			index.Manifests[i] = mergeDescriptors(index.Manifests[i], d)
			return
		}
		places[d.Digest] = len(index.Manifests)
		index.Manifests = append(index.Manifests, d)
	}
	for _, r := range list {
		if !manifest.IsIndex(r.desc.MediaType) {
			add(r.desc)
			continue
		}
		var old ocispec.Index
		if err := json.Unmarshal(r.data, &old); err != nil {
			return read{}, fmt.Errorf("reading the index of %s: %w", r.from, err)
		}
		for _, d := range old.Manifests {
			add(d)
		}
		if single {
			index.Annotations = old.Annotations
		}
	}
	index.MediaType = ocispec.MediaTypeImageIndex
	docker := func(d ocispec.Descriptor) bool { return strings.HasPrefix(d.MediaType, "application/vnd.docker.") }
	other := slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return !docker(d) })
	// Docker's list has no place for annotations.
	if !other && len(o.Annotations) == 0 {
		index.MediaType = manifest.DockerIndex
	}
	if err := o.Annotations.Annotate(&index); err != nil {
		return read{}, err
	}
	return encode(index, list[0].from)
}

// mergeDescriptors is what two descriptors say of one manifest; the later counts.
func mergeDescriptors(old, later ocispec.Descriptor) ocispec.Descriptor {
	if later.Platform != nil {
		old.Platform = later.Platform
	}
	if len(later.Annotations) > 0 {
		merged := maps.Clone(later.Annotations)
		for k, v := range old.Annotations {
			if _, ok := merged[k]; !ok {
				merged[k] = v
			}
		}
		old.Annotations = merged
	}
	return old
}

func encode(index ocispec.Index, from Place) (read, error) {
	data, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return read{}, err
	}
	desc := ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return read{desc: desc, from: from, data: data}, nil
}
