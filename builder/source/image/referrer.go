package image

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
)

// Referrer is a manifest, now in the store, that is about one of an image.
type Referrer struct {
	manifest.Referrer
	// Blobs are to be fetched.
	Blobs []layers.Layer
}

// Referrers keeps the manifests of what refers, in its registry, to root, to its index's
// images as far as these are in the store, to all of that, and so on. With an error, the
// first of several, it also returns what could be had.
func (f *Finder) Referrers(ctx context.Context, root Root) ([]Referrer, error) {
	subjects := []digest.Digest{root.desc.Digest}
	if root.index != nil {
		for _, m := range root.index.Manifests {
			if !manifest.IsAttestation(m) && f.store.Blobs.Has(m) {
				subjects = append(subjects, m.Digest)
			}
		}
	}
	var list []Referrer
	ask := func(subjects []digest.Digest) ([]manifest.Referrer, error) {
		return f.askReferrers(ctx, root.ref, subjects)
	}
	err := manifest.WalkReferrers(subjects, ask, func(r manifest.Referrer) error {
		kept, err := f.keepReferrer(ctx, root.ref, r)
		if err == nil {
			list = append(list, kept)
		}
		return err
	})
	return list, err
}

// askReferrers asks the registry what refers to each of subjects.
func (f *Finder) askReferrers(ctx context.Context, ref registry.Ref, subjects []digest.Digest) (all []manifest.Referrer, err error) {
	asked := make([]registry.Ref, len(subjects))
	for i, d := range subjects {
		asked[i] = registry.Ref{Host: ref.Host, Path: ref.Path, Digest: d}
	}
	lists, err := f.client.ReferrersOf(ctx, asked)
	for i, list := range lists {
		for _, d := range list {
			all = append(all, manifest.Referrer{Subject: subjects[i], Desc: d})
		}
	}
	return all, err
}

// keepReferrer keeps the manifest of a referrer, which must say what the list said of it.
func (f *Finder) keepReferrer(ctx context.Context, ref registry.Ref, said manifest.Referrer) (Referrer, error) {
	r := Referrer{Referrer: said}
	err := manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return f.blob(ctx, ref, d) },
		Visit: func(d *manifest.Document) error {
			for _, b := range d.Blobs() {
				r.Blobs = append(r.Blobs, layers.Layer{
					ID: layers.ID(b.Digest.Encoded()), Descriptor: b, Origins: []string{ref.Repository()},
				})
			}
			if d.Desc.Digest != said.Desc.Digest {
				return nil
			}
			r.Desc = d.Referrer()
			return said.Check(d)
		},
	}.Walk(said.Desc)
	if err != nil {
		return r, fmt.Errorf("what refers to %s: %w", said.Subject, err)
	}
	return r, nil
}
