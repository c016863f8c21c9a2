package source

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
)

// Limits for what comes from outside.
const (
	maxConfig     = 8 << 20 // bytes
	maxLayers     = 1024
	maxManifests  = 1024 // of an index with all that is nested in it
	maxIndexDepth = 4
)

// errArtifact is in the error of a manifest that is not one of an image.
var errArtifact = errors.New("an artifact, not an image")

// manifest is an image for one platform.
type manifest struct {
	desc    ocispec.Descriptor
	content ocispec.Manifest
	config  []byte
	image   ocispec.Image
}

// reader reads manifests, indexes and configs, verified.
type reader func(desc ocispec.Descriptor) ([]byte, error)

// load reads the manifest that desc names, or that which the index has for the
// platform.
func load(desc ocispec.Descriptor, platform *ocispec.Platform, read reader) (*manifest, error) {
	if isIndex(desc.MediaType) {
		return choose(desc, platformOf(platform), read)
	}
	return loadManifest(desc, read)
}

func loadManifest(desc ocispec.Descriptor, read reader) (*manifest, error) {
	m := &manifest{desc: desc}
	data, err := read(desc)
	if err != nil {
		return nil, err
	}
	if _, err := kindOf(data, desc.MediaType); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &m.content); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if m.config, err = read(m.content.Config); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(m.config, &m.image); err != nil {
		return nil, fmt.Errorf("config %s: %w", m.content.Config.Digest, err)
	}
	return m, m.checkConfig()
}

// check looks at all that a manifest refers to.
func (m *manifest) check() error {
	if err := m.content.Config.Digest.Validate(); err != nil {
		return fmt.Errorf("config %q: %w", m.content.Config.Digest, err)
	}
	switch t := m.content.Config.MediaType; t {
	case ocispec.MediaTypeImageConfig, "application/vnd.docker.container.image.v1+json", "application/octet-stream", "":
	default:
		return &registry.Error{
			Msg:  fmt.Sprintf("it is not an image but an artifact of the type %s", cmp.Or(m.content.ArtifactType, t)),
			Hint: "check the name: there may be another tag for the image itself", Err: errArtifact,
		}
	}
	if len(m.content.Layers) > maxLayers {
		return fmt.Errorf("it has %d layers, more than the %d that are allowed", len(m.content.Layers), maxLayers)
	}
	for i, l := range m.content.Layers {
		if err := l.Digest.Validate(); err != nil {
			return fmt.Errorf("layer %d, %q: %w", i+1, l.Digest, err)
		}
		if l.Size < 0 {
			return fmt.Errorf("layer %d has %d bytes", i+1, l.Size)
		}
		if err := checkLayerType(l.MediaType); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

func checkLayerType(t string) error {
	switch {
	case strings.HasSuffix(t, "+encrypted"):
		return &registry.Error{Msg: "it is encrypted: " + t, Hint: "use an image that is not encrypted, or decrypt it with another tool"}
	case strings.Contains(t, ".foreign.") || strings.Contains(t, ".nondistributable."):
		return &registry.Error{Msg: "it is kept elsewhere than in the registry (a foreign layer, as Windows images have): " + t}
	}
	switch t {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		"application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd":
		return nil
	}
	return fmt.Errorf("it is of the type %q, which is not supported", t)
}

func (m *manifest) checkConfig() error {
	diffs := m.image.RootFS.DiffIDs
	if len(diffs) != len(m.content.Layers) {
		return fmt.Errorf("config %s names %d layers where the manifest has %d", m.content.Config.Digest, len(diffs), len(m.content.Layers))
	}
	for i, d := range diffs {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("config %s: diff ID %d, %q: %w", m.content.Config.Digest, i+1, d, err)
		}
	}
	return nil
}

// chain returns the layers of an image, the first limit of them if limit > 0. Their
// diff IDs are what the config claims.
func (m *manifest) chain(limit int, origins []string) layers.Chain {
	n := len(m.content.Layers)
	if limit > 0 {
		n = min(n, limit)
	}
	chain := make(layers.Chain, n)
	for i, d := range m.content.Layers[:n] {
		diff := m.image.RootFS.DiffIDs[i]
		desc := ocispec.Descriptor{MediaType: layers.OCIType(d.MediaType), Digest: d.Digest, Size: d.Size}
		chain[i] = layers.Layer{
			ID: layers.BaseID(desc, diff), DiffID: diff, Origins: slices.Clone(origins), Descriptor: desc,
		}
	}
	return chain
}

// choose finds the best manifest of an index for a platform, in containerd's
// order of preference: linux/arm64 may run linux/arm/v7, but its own is better.
func choose(desc ocispec.Descriptor, platform ocispec.Platform, read reader) (*manifest, error) {
	l := indexed{read: read, seen: map[digest.Digest]bool{}}
	if err := l.addIndex(desc, 0); err != nil {
		return nil, err
	}
	match := platforms.Only(platform)
	var fitting []candidate
	for _, c := range l.found {
		if match.Match(c.platform) {
			fitting = append(fitting, c)
		}
	}
	if len(fitting) == 0 {
		return nil, noPlatform(platform, l.found)
	}
	slices.SortStableFunc(fitting, func(a, b candidate) int {
		switch {
		case match.Less(a.platform, b.platform):
			return -1
		case match.Less(b.platform, a.platform):
			return 1
		}
		return 0
	})
	return loadManifest(fitting[0].desc, read)
}

// candidate is one manifest of an index.
type candidate struct {
	desc     ocispec.Descriptor
	platform ocispec.Platform
}

// indexed finds the images of an index and of the indexes in it.
type indexed struct {
	read    reader
	seen    map[digest.Digest]bool // nested indexes
	entries int
	found   []candidate
}

func (l *indexed) addIndex(desc ocispec.Descriptor, depth int) error {
	if depth >= maxIndexDepth {
		return fmt.Errorf("index %s: more than %d indexes are nested", desc.Digest, maxIndexDepth)
	}
	data, err := l.read(desc)
	if err != nil {
		return err
	}
	var idx ocispec.Index
	if err := json.Unmarshal(data, &idx); err != nil {
		return fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	for _, d := range idx.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("manifest %q of index %s: %w", d.Digest, desc.Digest, err)
		}
		if l.entries++; l.entries > maxManifests {
			return fmt.Errorf("index %s: more than %d manifests", desc.Digest, maxManifests)
		}
		if err := l.add(d, depth); err != nil {
			return err
		}
	}
	return nil
}

// add adds what is an image. Attestations and artifacts are left out.
func (l *indexed) add(d ocispec.Descriptor, depth int) error {
	switch p := d.Platform; {
	case d.Annotations[referenceType] != "" || !isManifest(d.MediaType):
		return nil
	case isIndex(d.MediaType) && l.seen[d.Digest]:
		return nil
	case isIndex(d.MediaType):
		l.seen[d.Digest] = true
		return l.addIndex(d, depth+1)
	case p != nil && (p.OS == "unknown" || p.Architecture == "unknown"):
		return nil
	case p != nil && p.OS != "":
		l.found = append(l.found, candidate{d, platforms.Normalize(*p)})
		return nil
	}
	// The index does not say; the image itself does.
	m, err := loadManifest(d, l.read)
	if errors.Is(err, errArtifact) {
		return nil
	}
	if err == nil {
		l.found = append(l.found, candidate{d, platforms.Normalize(m.image.Platform)})
	}
	return err
}

func noPlatform(platform ocispec.Platform, all []candidate) error {
	names := make([]string, 0, len(all))
	for _, c := range all {
		names = append(names, platforms.Format(c.platform))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return fmt.Errorf("it has no image for %s, nor for any other platform", platforms.Format(platform))
	}
	return &registry.Error{
		Msg:  fmt.Sprintf("it has no image for %s, only for %s", platforms.Format(platform), strings.Join(names, ", ")),
		Hint: fmt.Sprintf("choose one of them with --platform, such as --platform=%s, or another image", names[0]),
	}
}

func isIndex(t string) bool {
	return t == ocispec.MediaTypeImageIndex || t == registry.MediaTypeDockerIndex
}

func isManifest(t string) bool {
	return isIndex(t) || t == ocispec.MediaTypeImageManifest || t == registry.MediaTypeDockerManifest
}
