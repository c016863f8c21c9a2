package stored

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// Attestation is a statement about an image or a part of it, or a signature.
type Attestation struct {
	// Subject is the manifest or index that it is about.
	Subject digest.Digest
	// Desc describes the blob that says it.
	Desc ocispec.Descriptor
	// Kind is the type of the statement's predicate; of other things the type of the
	// artifact or the blob.
	Kind string
	// IsReferrer says that it refers to its subject; others are in the image's index.
	IsReferrer bool
}

// Attestations returns what is attested in the image's index, as far as it is in the
// store, and by referrers: by subject, the root first, then by kind, and those in the
// index first.
func (b *Image) Attestations(ctx context.Context, referrers []Referrer) ([]Attestation, error) {
	var list []Attestation
	for _, desc := range b.attached {
		if !manifest.IsImage(desc.MediaType) {
			continue
		}
		data, err := b.Read(ctx, desc)
		if err != nil {
			return nil, err
		}
		d, err := manifest.Parse(desc, data)
		if err != nil {
			return nil, err
		}
		list = append(list, b.attested(ctx, d, digest.Digest(desc.Annotations[manifest.ReferenceDigest]), false)...)
	}
	for _, r := range referrers {
		list = append(list, r.attested(ctx, r.Doc, r.Subject, true)...)
	}
	order := map[digest.Digest]int{}
	subjects := b.Subjects()
	for i, d := range subjects {
		order[d] = i - len(subjects) // others are 0: last
	}
	slices.SortStableFunc(list, func(x, y Attestation) int {
		return cmp.Or(cmp.Compare(order[x.Subject], order[y.Subject]), x.compare(y))
	})
	return list, nil
}

// compare orders attestations of the same subject.
func (x Attestation) compare(y Attestation) int {
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.place(), y.place()), cmp.Compare(x.Desc.Digest, y.Desc.Digest))
}

func (x Attestation) place() int {
	if x.IsReferrer {
		return 1
	}
	return 0
}

// attested is what an attestation manifest holds; a manifest without layers says it by
// being there.
func (b *Image) attested(ctx context.Context, d *manifest.Document, subject digest.Digest, isReferrer bool) []Attestation {
	if subject == "" && d.Subject != nil {
		subject = d.Subject.Digest
	}
	what := d.Referrer().ArtifactType
	if what == manifest.AttestationType || manifest.IsConfig(what) {
		what = ""
	}
	if len(d.Layers) == 0 {
		return []Attestation{{subject, d.Desc, cmp.Or(what, d.Desc.MediaType), isReferrer}}
	}
	var list []Attestation
	for _, l := range d.Layers {
		kind := cmp.Or(d.PredicateType(l), b.predicateType(ctx, l), what, l.MediaType)
		list = append(list, Attestation{subject, l, kind, isReferrer})
	}
	return list
}

// predicateType is what a statement itself says; "" if that cannot be read, or is of
// something else.
func (b *Image) predicateType(ctx context.Context, l ocispec.Descriptor) string {
	if !manifest.MayState(l.MediaType) {
		return ""
	}
	data, err := b.Read(ctx, l)
	if err != nil {
		return ""
	}
	s, err := manifest.ParseStatement(l.MediaType, data)
	if err != nil {
		return ""
	}
	return s.PredicateType
}
