// Package attest makes in-toto statements about images and files, and the manifests that
// keep them: attestation manifests in BuildKit's form, which stand in an image's index,
// refer to the image (their subject), or both. What is stated comes from elsewhere
// (builder/provenance, builder/sbom).
package attest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/util/purl"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// Attestation is what is stated of an image or of files.
type Attestation struct {
	// Type is that of the predicate, Predicate is JSON.
	Type      string
	Predicate []byte
	// Subjects it is about; none means all that the image or the files are.
	Subjects []Subject
	// File is the name that the statement has in outputs that are files.
	File string
	// InlineOnly leaves it out of outputs that are files, and of archives of one platform.
	InlineOnly bool
	// Where it is wanted; "" is in the index.
	Where Where
	// Default says that nobody asked for it: it belongs beside the image, as a referrer, so
	// that an image without an index stays one.
	Default bool
}

// Kind is the type, but the same for provenance of all versions: an image needs one of each
// kind beside it.
func (a Attestation) Kind() string {
	if strings.HasPrefix(a.Type, manifest.PredicateSLSA) {
		return manifest.PredicateSLSA
	}
	return a.Type
}

// Subject is what a statement is about, with digests in hex by algorithm.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// NewSubject returns a subject with one digest.
func NewSubject(name string, d digest.Digest) Subject {
	return Subject{name, map[string]string{d.Algorithm().String(): d.Encoded()}}
}

// ImageSubjects are the subjects of an image with these names, as package URLs. The one of
// an image without names is called "_", as in-toto has it.
func ImageSubjects(names []string, p ocispec.Platform, d digest.Digest) ([]Subject, error) {
	var list []Subject
	for _, name := range names {
		url, err := purl.RefToPURL("docker", name, &p)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, func(s Subject) bool { return s.Name == url }) {
			list = append(list, NewSubject(url, d))
		}
	}
	if len(list) == 0 {
		list = []Subject{NewSubject("_", d)}
	}
	return list, nil
}

// statement is an in-toto statement, as the in-toto attestation framework has it in version
// 1 (spec/v1/statement.md), with the fields in BuildKit's order.
type statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []Subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

const statementV1 = "https://in-toto.io/Statement/v1"

// Statement is the in-toto statement that a holds for subjects. indent is for people.
func (a Attestation) Statement(subjects []Subject, indent bool) ([]byte, error) {
	if len(a.Subjects) > 0 {
		subjects = a.Subjects
	}
	s := statement{Type: statementV1, PredicateType: a.Type, Subject: slices.Concat([]Subject{}, subjects), Predicate: a.Predicate}
	if indent {
		return json.MarshalIndent(s, "", "  ")
	}
	return json.Marshal(s)
}

// Blob is a small blob and what describes it.
type Blob struct {
	ocispec.Descriptor
	Bytes []byte
}

// newBlob describes data.
func newBlob(data []byte, mediaType string) Blob {
	return Blob{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data}
}

// Manifest is an attestation manifest with its blobs. The first is the manifest's config.
type Manifest struct {
	Blob
	Blobs []Blob
}

// unknown is the platform of what is not an image.
var unknown = ocispec.Platform{OS: "unknown", Architecture: "unknown"}

// NewManifest makes the manifest that keeps statements about the manifest subject, as
// BuildKit makes it (exporter/containerimage/writer.go). With artifact it names its subject,
// and so refers to it; else it has an image config, as for readers before OCI 1.1.
func NewManifest(subject ocispec.Descriptor, list []Attestation, names []string, artifact bool) (*Manifest, error) {
	return newManifest(subject, list, names, artifact, nil)
}

// NewReferrer makes the manifest that keeps one statement beside the manifest subject, to
// which it refers. It is annotated with the type of the predicate, which so stands in lists
// of referrers.
func NewReferrer(subject ocispec.Descriptor, a Attestation, names []string) (*Manifest, error) {
	return newManifest(subject, []Attestation{a}, names, true, map[string]string{manifest.PredicateTypeKey: a.Type})
}

func newManifest(subject ocispec.Descriptor, list []Attestation, names []string, artifact bool, notes map[string]string) (*Manifest, error) {
	var about []Subject
	if subject.Platform != nil {
		var err error
		if about, err = ImageSubjects(names, *subject.Platform, subject.Digest); err != nil {
			return nil, err
		}
	}
	doc := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Annotations: notes,
	}
	m := &Manifest{Blobs: make([]Blob, 1)}
	config := ocispec.Image{Platform: unknown, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, a := range list {
		data, err := a.Statement(about, false)
		if err != nil {
			return nil, fmt.Errorf("the statement of type %s: %w", a.Type, err)
		}
		b := newBlob(data, manifest.InToto)
		b.Annotations = map[string]string{manifest.PredicateTypeKey: a.Type}
		m.Blobs = append(m.Blobs, b)
		doc.Layers = append(doc.Layers, b.Descriptor)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, b.Digest)
	}
	if artifact {
		empty := ocispec.DescriptorEmptyJSON
		m.Blobs[0] = Blob{ocispec.Descriptor{MediaType: empty.MediaType, Digest: empty.Digest, Size: empty.Size}, empty.Data}
		doc.Config, doc.ArtifactType = empty, manifest.AttestationType
		doc.Subject = &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	} else {
		data, err := json.Marshal(config)
		if err != nil {
			return nil, err
		}
		m.Blobs[0] = newBlob(data, ocispec.MediaTypeImageConfig)
		doc.Config = m.Blobs[0].Descriptor
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, err
	}
	m.Blob = newBlob(data, ocispec.MediaTypeImageManifest)
	if notes != nil { // as lists of referrers describe it
		m.Annotations, m.ArtifactType = notes, doc.ArtifactType
		return m, nil
	}
	m.Annotations = map[string]string{
		manifest.ReferenceType:   manifest.Attestation,
		manifest.ReferenceDigest: subject.Digest.String(),
	}
	m.Platform = &unknown
	return m, nil
}

// Where says where the attestations of an image are kept.
type Where string

// The places: in the image's index, as a referrer of its manifest, or both.
const (
	InIndex    Where = "index"
	AsReferrer Where = "referrer"
	Both       Where = "both"
)

// ParseWhere reads the value of attestation-manifest.
func ParseWhere(text string) (Where, error) {
	w := Where(text)
	if !slices.Contains([]Where{InIndex, AsReferrer, Both}, w) {
		return "", fmt.Errorf("attestation-manifest=%s: want index, referrer or both", text)
	}
	return w, nil
}

// Of is where a is kept in an output that says w; "" says nothing.
func (w Where) Of(a Attestation) (index, referrer bool) {
	own := a.Where
	if a.Default {
		own = AsReferrer
	}
	w = cmp.Or(w, own, InIndex)
	return w != AsReferrer, w != InIndex
}
