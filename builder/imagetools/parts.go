package imagetools

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export"
)

// Part is the image of one platform, with what is attested of it.
type Part struct {
	Desc       ocispec.Descriptor
	Platform   ocispec.Platform
	Config     *ocispec.Image
	Provenance Provenance
	SBOM       SBOM
}

// Provenance says how an image was built.
type Provenance struct {
	SLSA any `json:",omitempty"`
}

// SBOM says what an image holds.
type SBOM struct {
	SPDX any `json:",omitempty"`
	// AdditionalSPDXs are those of other scanners.
	AdditionalSPDXs []any `json:",omitempty"`
}

// The media type and annotation of attestations, and what they are of.
const (
	mediaTypeInToto         = "application/vnd.in-toto+json"
	annotationPredicateType = "in-toto.io/predicate-type"
	predicateSPDX           = "https://spdx.dev/Document"
	predicateSLSA           = "https://slsa.dev/provenance/"
)

// maxParts is the most manifests that an image may have.
const maxParts = 1000

// Parts are the images of the platforms, in the order of the index. What is no
// image is left out.
func (i *Image) Parts(ctx context.Context) ([]Part, error) {
	var images, attestations []document
	if err := i.walk(ctx, i.root, &images, &attestations, 0); err != nil {
		return nil, err
	}
	parts := make([]Part, 0, len(images))
	for _, d := range images {
		p, err := i.part(ctx, d)
		if err != nil {
			return nil, err
		}
		for _, a := range attestations {
			if digest.Digest(a.desc.Annotations[annotationReferenceDigest]) != d.desc.Digest {
				continue
			}
			if err := i.attest(ctx, &p, a); err != nil {
				return nil, err
			}
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// document is a manifest that has been read.
type document struct {
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
}

func (i *Image) walk(ctx context.Context, desc ocispec.Descriptor, images, attestations *[]document, depth int) error {
	if depth > 4 || len(*images)+len(*attestations) > maxParts {
		return fmt.Errorf("the image has too many indexes within indexes, or more than %d manifests", maxParts)
	}
	data, err := i.Blob(ctx, desc)
	if err != nil {
		return err
	}
	if export.IsIndex(desc.MediaType) {
		var index ocispec.Index
		if err := json.Unmarshal(data, &index); err != nil {
			return fmt.Errorf("reading index %s: %w", desc.Digest, err)
		}
		for _, d := range index.Manifests {
			if !isManifest(d.MediaType) {
				continue
			}
			if err := i.walk(ctx, d, images, attestations, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	d := document{desc: desc}
	if err := json.Unmarshal(data, &d.manifest); err != nil {
		return fmt.Errorf("reading manifest %s: %w", desc.Digest, err)
	}
	if desc.Annotations[annotationReferenceType] == attestation {
		*attestations = append(*attestations, d)
		return nil
	}
	*images = append(*images, d)
	return nil
}

func (i *Image) part(ctx context.Context, d document) (Part, error) {
	p := Part{Desc: d.desc, Config: &ocispec.Image{}}
	data, err := i.Blob(ctx, d.manifest.Config)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(data, p.Config); err != nil {
		return p, fmt.Errorf("reading config %s: %w", d.manifest.Config.Digest, err)
	}
	p.Platform = platforms.Normalize(p.Config.Platform)
	if d.desc.Platform != nil {
		p.Platform = *d.desc.Platform
	}
	return p, nil
}

// attest reads what an attestation manifest says.
func (i *Image) attest(ctx context.Context, p *Part, a document) error {
	for _, l := range a.manifest.Layers {
		kind := l.Annotations[annotationPredicateType]
		spdx, slsa := kind == predicateSPDX, strings.HasPrefix(kind, predicateSLSA)
		if l.MediaType != mediaTypeInToto || !spdx && !slsa {
			continue
		}
		data, err := i.Blob(ctx, l)
		if err != nil {
			return err
		}
		var statement struct{ Predicate any }
		if err := json.Unmarshal(data, &statement); err != nil {
			return fmt.Errorf("reading attestation %s: %w", l.Digest, err)
		}
		switch {
		case slsa:
			p.Provenance.SLSA = statement.Predicate
		case p.SBOM.SPDX == nil:
			p.SBOM.SPDX = statement.Predicate
		default:
			p.SBOM.AdditionalSPDXs = append(p.SBOM.AdditionalSPDXs, statement.Predicate)
		}
	}
	return nil
}
