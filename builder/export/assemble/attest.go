package assemble

import (
	"context"
	"errors"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
)

// Attest says what is attested of an image, and where that is kept.
type Attest struct {
	// Asked are the attestations that there will be, without their predicates: Part.Attest
	// makes these.
	Asked []attest.Attestation
	// Where an output wants them; "" is where each belongs.
	Where attest.Where
	// Names are the full references of the image.
	Names []string
	// NoInline leaves attestations that are InlineOnly out, unless there is an index anyway.
	NoInline bool
	// NoArtifact gives attestation manifests in an index the form of images, without
	// a subject.
	NoArtifact bool
}

// inIndex reports whether att is kept in the index, if there is one.
func (a Attest) inIndex(att attest.Attestation) bool {
	index, _ := a.Where.Of(att)
	return index
}

// InImage reports whether the image itself may have attestations; else it is the same
// without them.
func (a Attest) InImage() bool { return slices.ContainsFunc(a.Asked, a.inIndex) }

// indexed reports whether attestations make an index necessary.
func (a Attest) indexed() bool {
	return slices.ContainsFunc(a.Asked, func(att attest.Attestation) bool {
		return a.inIndex(att) && !(att.InlineOnly && a.NoInline)
	})
}

// Referring are the attestations that are kept as referrers.
func (a Attest) Referring(list []attest.Attestation) []attest.Attestation {
	return slices.DeleteFunc(slices.Clone(list), func(att attest.Attestation) bool {
		_, referrer := a.Where.Of(att)
		return !referrer
	})
}

// Required reports whether somebody asked for attestations that are kept as referrers.
func (a Attest) Required() bool {
	return slices.ContainsFunc(a.Referring(a.Asked), func(att attest.Attestation) bool { return !att.Default })
}

// hasIndex reports whether the image of parts has an index.
func (o Options) hasIndex(parts int) bool { return parts > 1 || o.Index || o.Attest.indexed() }

func (o Options) checkAttest() error {
	if o.DockerTypes && o.Attest.indexed() {
		return hint.Add(errors.New("attestations do not go with Docker's media types (oci-mediatypes=false)"),
			"leave one of the two out, or keep the attestations beside the image: attestation-manifest=referrer")
	}
	return nil
}

// attested makes the attestation manifests that belong into the index.
func (o Options) attested(ctx context.Context, s *store.Store, parts []Part, manifests []stored.Manifest) ([]*attest.Manifest, error) {
	if !o.Attest.InImage() {
		return nil, nil
	}
	var made []*attest.Manifest
	for i, p := range parts {
		if p.Attest == nil {
			continue
		}
		list, err := p.Attest(ctx, manifests[i].Layers)
		if err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(slices.Clone(list), func(att attest.Attestation) bool { return !o.Attest.inIndex(att) })
		if len(list) == 0 {
			continue
		}
		m, err := attest.NewManifest(manifests[i].Desc, list, o.Attest.Names, !o.Attest.NoArtifact)
		if err != nil {
			return nil, err
		}
		if err := PutAttestations(ctx, s, m); err != nil {
			return nil, fmt.Errorf("keeping attestations: %w", err)
		}
		made = append(made, m)
	}
	return made, nil
}

// PutAttestations keeps an attestation manifest and its blobs.
func PutAttestations(ctx context.Context, s *store.Store, m *attest.Manifest) error {
	for _, b := range m.Blobs {
		if len(b.Bytes) > manifest.MaxStatement {
			return hint.Add(fmt.Errorf("an attestation has %d bytes, and must not have more than %d", len(b.Bytes), manifest.MaxStatement),
				"most of what is long is lists of packages: attest less, or fewer stages")
		}
		if _, err := s.Blobs.Add(ctx, b.Bytes, b.MediaType); err != nil {
			return err
		}
	}
	_, err := putBlob(ctx, s, m.Bytes, m.MediaType)
	return err
}

// attachedTo are the blobs of attestation manifests.
func attachedTo(made []*attest.Manifest) []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, m := range made {
		for _, b := range append(m.Blobs, m.Blob) {
			list = append(list, b.Descriptor)
		}
	}
	return list
}
