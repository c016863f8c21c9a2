package image

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
)

// parallelQuestions is how many manifests of an image are asked about at once.
const parallelQuestions = 4

// Referrer is a manifest, now in the store, that is about one of an image.
type Referrer struct {
	manifest.Referrer
	// Blobs are to be fetched.
	Blobs []layers.Layer
}

// Referrers keeps the manifests of what refers, in its registry, to the index or manifest
// that ref names, to the index's images as far as these are in the store, to all of that,
// and so on. pulled is a platform for which the image was. With an error, the first of
// several, it also returns what could be had.
func (f *Finder) Referrers(ctx context.Context, ref string, pulled ocispec.Platform) ([]Referrer, error) {
	named, err := registry.ParseRef(ref)
	if err != nil {
		return nil, err
	}
	desc, _, err := f.open(ctx, named, &pulled, false)
	if err != nil {
		return nil, err
	}
	subjects := []digest.Digest{desc.Digest}
	if manifest.IsIndex(desc.MediaType) {
		data, err := f.blob(ctx, named, desc)
		if err != nil {
			return nil, err
		}
		index, err := manifest.Parse(desc, data)
		if err != nil {
			return nil, err
		}
		for _, m := range index.Manifests {
			if !manifest.IsAttestation(m) && f.store.Blobs.Has(m) {
				subjects = append(subjects, m.Digest)
			}
		}
	}
	var list []Referrer
	ask := func(subjects []digest.Digest) ([]manifest.Referrer, error) {
		return f.askReferrers(ctx, named, subjects)
	}
	err = manifest.WalkReferrers(subjects, ask, func(r manifest.Referrer) error {
		kept, err := f.keepReferrer(ctx, named, r)
		if err == nil {
			list = append(list, kept)
		}
		return err
	})
	return list, err
}

// askReferrers asks the registry what refers to each of subjects.
func (f *Finder) askReferrers(ctx context.Context, ref registry.Ref, subjects []digest.Digest) ([]manifest.Referrer, error) {
	lists, failed := make([][]manifest.Referrer, len(subjects)), make([]error, len(subjects))
	var group errgroup.Group
	group.SetLimit(parallelQuestions)
	for i, subject := range subjects {
		group.Go(func() error {
			var found []ocispec.Descriptor
			found, failed[i] = f.client.Referrers(ctx, ref, subject, "")
			for _, d := range found {
				lists[i] = append(lists[i], manifest.Referrer{Subject: subject, Desc: d})
			}
			return nil
		})
	}
	_ = group.Wait()
	return slices.Concat(lists...), cmp.Or(failed...)
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
