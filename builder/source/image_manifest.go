package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

// The media types of docker's own formats; their content is that of OCI's.
const (
	dockerManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest1 = "application/vnd.docker.distribution.manifest.v1"
)

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerIndex
}

func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// bundle is where the blobs of one image are.
type bundle struct {
	// read returns a manifest, index or config, verified.
	read func(ocispec.Descriptor) ([]byte, error)
	// origin is where layers can be got later.
	origin string
	// ref is the image's name as it was asked for.
	ref string
}

// maxNesting is how deep indexes may lie in one another.
const maxNesting = 4

// open reads the image that desc stands for on a platform, and notes its layers
// in the store.
func (i *Images) open(ctx context.Context, b bundle, desc ocispec.Descriptor, p ocispec.Platform) (Meta, layers.Chain, error) {
	meta := Meta{Ref: b.ref, Digest: desc.Digest}
	m, err := b.manifest(ctx, desc, p, 0)
	if err != nil {
		return meta, nil, err
	}
	if meta.Config, err = b.read(m.Config); err != nil {
		return meta, nil, fmt.Errorf("image %s: config: %w", b.ref, err)
	}
	c, err := decodeConfig(meta.Config)
	if err != nil {
		return meta, nil, fmt.Errorf("image %s: config: %w", b.ref, err)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return meta, nil, fmt.Errorf("image %s: its config names %d layers, its manifest %d", b.ref, len(c.RootFS.DiffIDs), len(m.Layers))
	}
	chain := make(layers.Chain, len(m.Layers))
	times := layerTimes(c)
	for n, d := range m.Layers {
		if err := checkLayer(d); err != nil {
			return meta, nil, fmt.Errorf("image %s: layer %s: %w", b.ref, d.Digest, err)
		}
		d.Annotations, d.URLs = nil, nil
		l := layers.Layer{
			ID: layers.ID(c.RootFS.DiffIDs[n].Encoded()), DiffID: c.RootFS.DiffIDs[n],
			Descriptor: d, Origins: []string{b.origin},
		}
		if n < len(times) && times[n] != nil {
			l.Created = *times[n]
		}
		if err := i.store.Known(l); err != nil {
			return meta, nil, err
		}
		if known, err := i.store.Get(l.ID); err == nil && known.Descriptor.Digest == d.Digest {
			l.Origins = known.Origins
		}
		chain[n] = l
	}
	return meta, chain, nil
}

// manifest reads the manifest for a platform that desc leads to.
func (b bundle) manifest(ctx context.Context, desc ocispec.Descriptor, p ocispec.Platform, depth int) (*ocispec.Manifest, error) {
	if strings.HasPrefix(desc.MediaType, dockerManifest1) {
		return nil, fmt.Errorf("image %s has docker's first manifest format (schema 1), which nobody should use any more: push it again", b.ref)
	}
	data, err := b.read(desc)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", b.ref, err)
	}
	// Some registries and layouts leave the media type out of one place.
	mediaType := mediaTypeOf(data, desc.MediaType)
	switch {
	case isManifest(mediaType):
		var m ocispec.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, fmt.Errorf("image %s: manifest: %w", b.ref, err)
		}
		return &m, m.Config.Digest.Validate()
	case !isIndex(mediaType):
		return nil, fmt.Errorf("image %s: %q is no image", b.ref, mediaType)
	case depth == maxNesting:
		return nil, fmt.Errorf("image %s: more than %d indexes lie in one another", b.ref, maxNesting)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(data, &idx); err != nil {
		return nil, fmt.Errorf("image %s: index: %w", b.ref, err)
	}
	next, err := b.choose(idx, p)
	if err != nil {
		return nil, err
	}
	return b.manifest(ctx, next, p, depth+1)
}

func mediaTypeOf(data []byte, said string) string {
	var m struct {
		MediaType string            `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
		Layers    []json.RawMessage `json:"layers"`
	}
	if isIndex(said) || isManifest(said) || json.Unmarshal(data, &m) != nil {
		return said
	}
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case m.Layers != nil:
		return ocispec.MediaTypeImageManifest
	}
	return said
}

// choose picks the best manifest of an index for a platform, as containerd does.
func (b bundle) choose(idx ocispec.Index, p ocispec.Platform) (ocispec.Descriptor, error) {
	want := platforms.Only(p)
	var best *ocispec.Descriptor
	var has []string
	for n := range idx.Manifests {
		d := &idx.Manifests[n]
		if !isManifest(d.MediaType) && !isIndex(d.MediaType) && d.MediaType != "" {
			continue
		}
		if d.Platform == nil {
			if best == nil && len(idx.Manifests) == 1 {
				best = d
			}
			continue
		}
		if d.Platform.OS == "unknown" {
			// An attestation.
			continue
		}
		has = append(has, platforms.FormatAll(*d.Platform))
		if want.Match(*d.Platform) && (best == nil || best.Platform == nil || want.Less(*d.Platform, *best.Platform)) {
			best = d
		}
	}
	if best == nil {
		return ocispec.Descriptor{}, &platformError{ref: b.ref, want: platforms.FormatAll(p), has: has}
	}
	return *best, best.Digest.Validate()
}

// platformError says that an image does not exist for a platform.
type platformError struct {
	ref, want string
	has       []string
}

func (e *platformError) Error() string {
	return fmt.Sprintf("image %s: no match for platform in manifest: not found: it is not there for %s", e.ref, e.want)
}

// HintText lists the platforms that there are.
func (e *platformError) HintText() string {
	if len(e.has) == 0 {
		return "the image names no platforms at all"
	}
	return "it is there for " + strings.Join(e.has, ", ") + "; choose one with --platform"
}

var errForeign = errors.New("it is kept elsewhere (a foreign layer), which is not supported")

func checkLayer(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return err
	}
	if d.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest algorithm %s is not supported", d.Digest.Algorithm())
	}
	switch {
	case strings.Contains(d.MediaType, "foreign") || strings.Contains(d.MediaType, "nondistributable"):
		return errForeign
	case strings.Contains(d.MediaType, "encrypted"):
		return errors.New("it is encrypted, which is not supported")
	case !strings.Contains(d.MediaType, "tar"):
		return fmt.Errorf("media type %q is no layer", d.MediaType)
	}
	return nil
}
