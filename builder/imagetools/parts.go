package imagetools

import (
	"cmp"
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

	seen map[digest.Digest]bool // layers of attestations
}

// IsEmpty reports whether nothing is known.
func (p Provenance) IsEmpty() bool { return p.SLSA == nil }

// IsEmpty reports whether nothing is known.
func (s SBOM) IsEmpty() bool { return s.SPDX == nil }

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

// Parts are the images of the platforms, in the order of the index, with what is attested
// of them in the index and by referrers. Other manifests are left out. warn gets what is
// wrong with referrers, which anybody who may push can add.
func (i *Image) Parts(ctx context.Context, warn func(error)) ([]Part, error) {
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
		if err := i.attestByReferrers(ctx, &p); err != nil && ctx.Err() == nil {
			warn(err)
		}
		parts = append(parts, p)
	}
	return parts, context.Cause(ctx)
}

// attestByReferrers reads what referrers attest of an image.
func (i *Image) attestByReferrers(ctx context.Context, p *Part) error {
	list, err := i.referrersOf(ctx, []digest.Digest{p.Desc.Digest})
	for _, r := range list[:min(len(list), manifest.MaxReferrers)] {
		d, wrong := r.document(ctx)
		if wrong == nil {
			wrong = r.attest(ctx, p, d)
		}
		err = cmp.Or(err, wrong)
	}
	return err
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
	p := Part{Desc: d.Desc, Config: &ocispec.Image{}, seen: map[digest.Digest]bool{}}
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

// attest reads what an attestation manifest says. The first provenance counts.
func (i *Image) attest(ctx context.Context, p *Part, a *manifest.Document) error {
	for _, l := range a.Layers {
		kind := a.PredicateType(l)
		switch {
		case !manifest.MayState(l.MediaType) || p.seen[l.Digest]:
			continue
		case kind == "" && l.MediaType == manifest.InToto: // BuildKit says the type
			continue
		case kind != "" && !isProvenance(kind) && kind != manifest.PredicateSPDX:
			continue
		}
		p.seen[l.Digest] = true
		data, err := i.Blob(ctx, l)
		if err != nil {
			return err
		}
		statement, err := manifest.ParseStatement(l.MediaType, data)
		if err != nil && kind == "" {
			continue // a mere signature
		}
		var predicate any
		if err == nil && statement.Predicate != nil {
			err = json.Unmarshal(statement.Predicate, &predicate)
		}
		if err != nil {
			return fmt.Errorf("attestation %s: %w", l.Digest, err)
		}
		switch kind = cmp.Or(kind, statement.PredicateType); {
		case isProvenance(kind) && p.Provenance.SLSA == nil:
			p.Provenance.SLSA = predicate
		case kind != manifest.PredicateSPDX:
		case p.SBOM.SPDX == nil:
			p.SBOM.SPDX = predicate
		default:
			p.SBOM.AdditionalSPDXs = append(p.SBOM.AdditionalSPDXs, predicate)
		}
	}
	return nil
}

func isProvenance(predicateType string) bool {
	return strings.HasPrefix(predicateType, manifest.PredicateSLSA)
}
