// Package manifest knows the documents that describe an image: manifests and
// indexes, OCI's and Docker's. It holds their media types and limits, reads and
// parses them, walks an index, and chooses among platforms.
//
// It also knows what refers to them, and the statements of attestations.
//
// Everything it parses may be hostile: a document that it returns keeps the limits,
// and all its digests are valid. It does not know where blobs are kept, does not
// fetch them, and does not look at layers or, beyond its size, at a config.
package manifest

import (
	"cmp"
	_ "crypto/sha512" // digests may be of it
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types: image manifest version 2, schema 2.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// DockerEntry is one image of the manifest.json that docker save writes. Config and
// Layers are names of files in the archive.
type DockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// The annotations that BuildKit gives a manifest which is about another one of its
// index, and the type that an attestation has: there, and as an OCI artifact.
const (
	ReferenceType   = "vnd.docker.reference.type"
	ReferenceDigest = "vnd.docker.reference.digest"
	Attestation     = "attestation-manifest"
	AttestationType = "application/vnd.docker.attestation.manifest.v1+json"
)

// Limits. They are the same wherever an image is read or written, so that an image
// which can be pushed can be pulled. Containerd, and so BuildKit, limits only the
// size of a manifest or index, to 4*1048*1048 bytes, which about 26,000 descriptors
// fill.
const (
	// MaxBytes is the most that a manifest, index or config may have.
	MaxBytes = 16 << 20
	// MaxEntries is how many layers a manifest may list, and how many entries all
	// indexes of an image together.
	MaxEntries = 32 << 10
	// MaxNesting is how many indexes may be nested, the outermost included.
	MaxNesting = 4
)

// IsIndex reports whether a media type is that of an index.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerIndex
}

// IsImage reports whether a media type is that of an image manifest.
func IsImage(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == DockerManifest
}

// IsManifest reports whether a media type is that of an index or image manifest.
func IsManifest(mediaType string) bool { return IsIndex(mediaType) || IsImage(mediaType) }

// IsConfig reports whether a media type is that of an image config.
func IsConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == DockerConfig
}

// IsAttestation reports whether desc describes a manifest that is about another one
// and not an image itself.
func IsAttestation(desc ocispec.Descriptor) bool {
	return desc.Annotations[ReferenceType] != "" || desc.ArtifactType == AttestationType ||
		desc.Platform != nil && desc.Platform.OS == "unknown"
}

// DamagedError says that a blob is not what its descriptor says.
type DamagedError struct {
	Digest digest.Digest
	// What it is instead.
	What string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("blob %s is damaged: it %s", e.Digest, e.What)
}

// Read reads a manifest, index, config or another small blob, and verifies its
// digest, and its size unless desc has none: see DamagedError.
func Read(r io.Reader, desc ocispec.Descriptor) ([]byte, error) {
	if err := CheckSmall(desc); err != nil {
		return nil, err
	}
	// One byte more, to notice a blob that is too long.
	limit := cmp.Or(desc.Size, MaxBytes)
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, err)
	case int64(len(data)) > limit:
		return nil, &DamagedError{desc.Digest, fmt.Sprintf("has more than %d bytes", limit)}
	case desc.Size > 0 && int64(len(data)) < desc.Size:
		return nil, &DamagedError{desc.Digest, fmt.Sprintf("has only %d bytes, not %d", len(data), desc.Size)}
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, &DamagedError{desc.Digest, fmt.Sprintf("has the digest %s", got)}
	}
	return data, nil
}

// CheckSmall refuses a descriptor that cannot be of a manifest, index, config or statement.
func CheckSmall(desc ocispec.Descriptor) error {
	if err := check(desc); err != nil {
		return err
	}
	switch isStatement := MayState(desc.MediaType); {
	case isStatement && desc.Size > MaxStatement:
		return fmt.Errorf("blob %s has %d bytes: an attestation must not have more than %d", desc.Digest, desc.Size, MaxStatement)
	case !isStatement && desc.Size > MaxBytes:
		return fmt.Errorf("blob %s has %d bytes: a manifest or config must not have more than %d", desc.Digest, desc.Size, MaxBytes)
	}
	return nil
}

func check(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w", desc.Digest, err)
	}
	if desc.Size < 0 {
		return fmt.Errorf("blob %s has a negative size: %d", desc.Digest, desc.Size)
	}
	return nil
}

// Document is a manifest or an index.
type Document struct {
	Desc ocispec.Descriptor
	Data []byte
	// Manifests are the entries of an index.
	Manifests []ocispec.Descriptor
	// Config and Layers are those of a manifest; Config is nil in an index.
	Config *ocispec.Descriptor
	Layers []ocispec.Descriptor
	// ArtifactType is what a manifest says that it is of, if not of an image.
	ArtifactType string
	Annotations  map[string]string
	// Subject is the manifest or index that this one is about; nil for most.
	Subject *ocispec.Descriptor
}

// IsIndex reports whether d is an index.
func (d *Document) IsIndex() bool { return IsIndex(d.Desc.MediaType) || d.Manifests != nil }

// Blobs are the layers and the config of a manifest.
func (d *Document) Blobs() []ocispec.Descriptor {
	if d.Config == nil {
		return d.Layers
	}
	return append(d.Layers[:len(d.Layers):len(d.Layers)], *d.Config)
}

// Parse reads the document that desc describes. One that could be taken for an index
// and for a manifest is refused (CVE-2021-41190).
func Parse(desc ocispec.Descriptor, data []byte) (*Document, error) {
	d := &Document{Desc: desc, Data: data}
	var fields struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`

		ArtifactType string              `json:"artifactType"`
		Annotations  map[string]string   `json:"annotations"`
		Subject      *ocispec.Descriptor `json:"subject"`
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	d.Manifests, d.Config, d.Layers = fields.Manifests, fields.Config, fields.Layers
	d.ArtifactType, d.Annotations, d.Subject = fields.ArtifactType, fields.Annotations, fields.Subject
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return d, nil
}

func (d *Document) check() error {
	switch n := len(d.Manifests) + len(d.Layers); {
	case d.IsIndex() && (d.Config != nil || len(d.Layers) > 0):
		return errors.New("it is an index, but has a config or layers as well")
	case IsImage(d.Desc.MediaType) && d.IsIndex():
		return errors.New("its media type is that of an image, but it is an index")
	case n > MaxEntries:
		return fmt.Errorf("it lists %d manifests or layers, and must not list more than %d", n, MaxEntries)
	}
	for _, b := range append(d.Blobs(), d.Manifests...) {
		if err := check(b); err != nil {
			return err
		}
	}
	if d.Subject != nil {
		if err := CheckSmall(*d.Subject); err != nil {
			return fmt.Errorf("its subject: %w", err)
		}
	}
	if d.Config != nil && IsConfig(d.Config.MediaType) {
		return CheckSmall(*d.Config)
	}
	return nil
}

// CheckConfig refuses a config that names other layers than the manifest has.
func (d *Document) CheckConfig(config ocispec.Image) error {
	diffs := config.RootFS.DiffIDs
	if len(diffs) != len(d.Layers) {
		return fmt.Errorf("config %s names %d layers where the manifest has %d", d.Config.Digest, len(diffs), len(d.Layers))
	}
	for i, diff := range diffs {
		if err := diff.Validate(); err != nil {
			return fmt.Errorf("config %s: diff ID %d, %q: %w", d.Config.Digest, i+1, diff, err)
		}
	}
	return nil
}
