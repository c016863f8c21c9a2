package image

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
)

// errArtifact is in the error of a manifest that is not one of an image.
var errArtifact = errors.New("an artifact, not an image")

// imageManifest is an image for one platform.
type imageManifest struct {
	*manifest.Document
	config []byte
	image  ocispec.Image
}

// reader reads manifests, indexes and configs, verified.
type reader func(desc ocispec.Descriptor) ([]byte, error)

// load reads the manifest that desc names, or that which the index has for the
// platform.
func load(desc ocispec.Descriptor, platform *ocispec.Platform, read reader) (*imageManifest, error) {
	if manifest.IsIndex(desc.MediaType) {
		return choose(desc, platformOf(platform), read)
	}
	return loadManifest(desc, read)
}

func loadManifest(desc ocispec.Descriptor, read reader) (*imageManifest, error) {
	data, err := read(desc)
	if err != nil {
		return nil, err
	}
	if _, err := kindOf(data, desc.MediaType); err != nil {
		return nil, err
	}
	m := &imageManifest{}
	if m.Document, err = manifest.Parse(desc, data); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if m.config, err = read(*m.Config); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(m.config, &m.image); err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	return m, m.CheckConfig(m.image)
}

// check refuses what is not an image that can be unpacked.
func (m *imageManifest) check() error {
	if m.Config == nil {
		return errors.New("it has no config")
	}
	switch t := m.Config.MediaType; t {
	case ocispec.MediaTypeImageConfig, manifest.DockerConfig, "application/octet-stream", "":
	default:
		return &registry.Error{
			Msg:  fmt.Sprintf("it is not an image but an artifact of the type %s", cmp.Or(m.ArtifactType, t)),
			Hint: "check the name: there may be another tag for the image itself", Err: errArtifact,
		}
	}
	for i, l := range m.Layers {
		if err := checkLayerType(l.MediaType); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

func checkLayerType(t string) error {
	switch {
	case strings.HasSuffix(t, "+encrypted"):
		return hint.Add(errors.New("it is encrypted: "+t), "use an image that is not encrypted, or decrypt it with another tool")
	case strings.Contains(t, ".foreign.") || strings.Contains(t, ".nondistributable."):
		return errors.New("it is kept elsewhere than in the registry (a foreign layer, as Windows images have): " + t)
	}
	switch t {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		layers.DockerLayer, layers.DockerLayerGzip,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":
		return nil
	}
	return fmt.Errorf("it is of the type %q, which is not supported", t)
}

// chain returns the layers of an image, the first limit of them if limit > 0. Their
// diff IDs are what the config claims.
func (m *imageManifest) chain(limit int, origins []string) layers.Chain {
	n := len(m.Layers)
	if limit > 0 {
		n = min(n, limit)
	}
	chain := make(layers.Chain, n)
	for i, d := range m.Layers[:n] {
		diff := m.image.RootFS.DiffIDs[i]
		desc := ocispec.Descriptor{MediaType: layers.OCIType(d.MediaType), Digest: d.Digest, Size: d.Size}
		chain[i] = layers.Layer{
			ID: layers.BaseID(desc, diff), DiffID: diff, Origins: slices.Clone(origins), Descriptor: desc,
		}
	}
	return chain
}

// choose finds the best manifest of an index for a platform.
func choose(desc ocispec.Descriptor, platform ocispec.Platform, read reader) (*imageManifest, error) {
	c := candidates{read: read}
	err := manifest.Walker{
		Read: read, Want: c.want,
		Visit: func(*manifest.Document) error { return nil },
	}.Walk(desc)
	if err != nil {
		return nil, err
	}
	best, ok := manifest.Best(platform, c.platforms)
	if !ok {
		return nil, noPlatform(platform, c.platforms)
	}
	return loadManifest(c.descs[best], read)
}

// candidates are the images of an index and of the indexes in it.
type candidates struct {
	read      reader
	descs     []ocispec.Descriptor
	platforms []ocispec.Platform
}

func (c *candidates) add(d ocispec.Descriptor, p ocispec.Platform) {
	c.descs = append(c.descs, d)
	c.platforms = append(c.platforms, platforms.Normalize(p))
}

// want adds an entry that is an image, and reports whether it is an index.
// Attestations and artifacts are left out.
func (c *candidates) want(d ocispec.Descriptor) (index bool, err error) {
	switch p := d.Platform; {
	case d.Annotations[manifest.ReferenceType] != "" || !manifest.IsManifest(d.MediaType):
		return false, nil
	case manifest.IsIndex(d.MediaType):
		return true, nil
	case p != nil && (p.OS == "unknown" || p.Architecture == "unknown"):
		return false, nil
	case p != nil && p.OS != "":
		c.add(d, *p)
		return false, nil
	}
	// The index does not say its platform; the image itself does.
	m, err := loadManifest(d, c.read)
	if errors.Is(err, errArtifact) {
		return false, nil
	}
	if err == nil {
		c.add(d, m.image.Platform)
	}
	return false, err
}

func noPlatform(platform ocispec.Platform, all []ocispec.Platform) error {
	names := make([]string, 0, len(all))
	for _, p := range all {
		names = append(names, platforms.Format(p))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return fmt.Errorf("it has no image for %s, nor for any other platform", platforms.Format(platform))
	}
	return hint.Add(fmt.Errorf("it has no image for %s, only for %s", platforms.Format(platform), strings.Join(names, ", ")),
		fmt.Sprintf("choose one of them with --platform, such as --platform=%s, or another image", names[0]))
}
