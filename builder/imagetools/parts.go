package imagetools

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
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

// Parts are the images of the platforms, in the order of the index. What is no
// image is left out.
func (i *Image) Parts(ctx context.Context) ([]Part, error) {
	images, attestations, err := i.documents(ctx)
	if err != nil {
		return nil, err
	}
	parts := make([]Part, 0, len(images))
	for _, d := range images {
		p, err := i.part(ctx, d)
		if err != nil {
			return nil, err
		}
		for _, a := range attestations {
			if digest.Digest(a.Desc.Annotations[manifest.ReferenceDigest]) != d.Desc.Digest {
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

// documents reads the manifests of the image: those of images, and attestations.
func (i *Image) documents(ctx context.Context) (images, attestations []*manifest.Document, err error) {
	err = manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return i.Blob(ctx, d) },
		Want: func(d ocispec.Descriptor) (bool, error) { return manifest.IsManifest(d.MediaType), nil },
		Visit: func(d *manifest.Document) error {
			switch {
			case d.IsIndex():
			case d.Desc.Annotations[manifest.ReferenceType] == manifest.Attestation:
				attestations = append(attestations, d)
			default:
				images = append(images, d)
			}
			return nil
		},
	}.Walk(i.root)
	return images, attestations, err
}

func (i *Image) part(ctx context.Context, d *manifest.Document) (Part, error) {
	p := Part{Desc: d.Desc, Config: &ocispec.Image{}}
	if d.Config == nil {
		return p, fmt.Errorf("manifest %s has no config", d.Desc.Digest)
	}
	data, err := i.Blob(ctx, *d.Config)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(data, p.Config); err != nil {
		return p, fmt.Errorf("reading config %s: %w", d.Config.Digest, err)
	}
	p.Platform = platforms.Normalize(p.Config.Platform)
	if d.Desc.Platform != nil {
		p.Platform = *d.Desc.Platform
	}
	return p, nil
}

// attest reads what an attestation manifest says.
func (i *Image) attest(ctx context.Context, p *Part, a *manifest.Document) error {
	for _, l := range a.Layers {
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
