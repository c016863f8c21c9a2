package imagetools

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
	"github.com/sinter-build/sinter/builder/source/image"
)

// Referrer is a manifest in a registry or layout that refers to Subject, or is listed
// there as if it did. registry.Client.PushReferrer takes it.
type Referrer struct {
	*Image
	Subject digest.Digest
	From    Place
}

// Referrers lists what refers to the image and to the images of its index, in the places
// where these were found. It reads none of it. With an error, the first of several, it
// also returns what could be had.
func (i *Image) Referrers(ctx context.Context) ([]Referrer, error) {
	subjects, err := i.subjects(ctx, func(d ocispec.Descriptor) bool { return !manifest.IsAttestation(d) })
	if err != nil {
		return nil, err
	}
	return i.referrersOf(ctx, subjects)
}

// AllReferrers lists also what refers to attestations in the index, to referrers, and so
// on. It reads their manifests: they say of themselves what they refer to.
func (i *Image) AllReferrers(ctx context.Context) ([]Referrer, error) {
	subjects, err := i.subjects(ctx, func(ocispec.Descriptor) bool { return true })
	if err != nil {
		return nil, err
	}
	var list []Referrer
	found := map[[2]digest.Digest]Referrer{}
	ask := func(subjects []digest.Digest) (all []manifest.Referrer, err error) {
		more, err := i.referrersOf(ctx, subjects)
		for _, r := range more {
			found[[2]digest.Digest{r.Subject, r.root.Digest}] = r
			all = append(all, manifest.Referrer{Subject: r.Subject, Desc: r.root})
		}
		return all, err
	}
	err = manifest.WalkReferrers(subjects, ask, func(named manifest.Referrer) error {
		r := found[[2]digest.Digest{named.Subject, named.Desc.Digest}]
		_, err := r.document(ctx)
		if err == nil {
			list = append(list, r)
			i.mu.Lock()
			defer i.mu.Unlock()
			i.noteAt(r.root.Digest, r.From) // what refers to it is there too
		}
		return err
	})
	return list, err
}

// document reads a referrer's manifest, which must say what was said of it.
func (r *Referrer) document(ctx context.Context) (*manifest.Document, error) {
	data, err := r.Blob(ctx, r.root)
	if err != nil {
		return nil, fmt.Errorf("what refers to %s: %w", r.Subject, err)
	}
	d, err := manifest.Parse(r.root, data)
	if err != nil {
		return nil, err
	}
	return d, manifest.Referrer{Subject: r.Subject, Desc: r.root}.Check(d)
}

// subjects are the image and those manifests of its index, or indexes, that want takes.
func (i *Image) subjects(ctx context.Context, want func(ocispec.Descriptor) bool) ([]digest.Digest, error) {
	list, seen := []digest.Digest{i.root.Digest}, map[digest.Digest]bool{i.root.Digest: true}
	err := manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return i.Blob(ctx, d) },
		Want: func(d ocispec.Descriptor) (bool, error) {
			if want(d) && !seen[d.Digest] {
				seen[d.Digest] = true
				list = append(list, d.Digest)
			}
			return manifest.IsIndex(d.MediaType), nil
		},
		Visit: func(*manifest.Document) error { return nil },
	}.Walk(i.root)
	return list, err
}

// places are where a manifest of the image is.
func (i *Image) places(d digest.Digest) []Place {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.from[d])
}

// referrersOf asks all places where subjects are.
func (i *Image) referrersOf(ctx context.Context, subjects []digest.Digest) ([]Referrer, error) {
	lists, failed := make([][]Referrer, len(subjects)), make([]error, len(subjects))
	var group errgroup.Group
	group.SetLimit(8)
	for n, subject := range subjects {
		group.Go(func() error {
			seen := map[digest.Digest]bool{}
			for _, place := range i.places(subject) {
				found, err := place.referrers(ctx, i.client, subject)
				failed[n] = cmp.Or(failed[n], err)
				for _, d := range found {
					if !seen[d.Digest] {
						seen[d.Digest] = true
						lists[n] = append(lists[n], newReferrer(i.client, subject, d, place))
					}
				}
			}
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return slices.Concat(lists...), cmp.Or(failed...)
}

func newReferrer(client *registry.Client, subject digest.Digest, desc ocispec.Descriptor, from Place) Referrer {
	r := Referrer{Image: newImage(client), Subject: subject, From: from}
	r.root = desc
	r.from[desc.Digest] = []Place{from}
	return r
}

// referrers lists what refers to a manifest.
func (p Place) referrers(ctx context.Context, client *registry.Client, subject digest.Digest) ([]ocispec.Descriptor, error) {
	if p.Layout != "" {
		return image.Layout{Dir: p.Layout}.Referrers(subject)
	}
	return client.Referrers(ctx, p.Ref, subject, "")
}

// PushReferrers pushes what refers to an image into the repository of a new one, unless it
// is there already.
func PushReferrers(ctx context.Context, client *registry.Client, list []Referrer, target registry.Ref) (pushed int, err error) {
	for _, r := range list {
		if r.From.isAt(Place{Ref: target}) {
			continue
		}
		if err := client.PushReferrer(ctx, target.Repository(), r, nil); err != nil {
			return pushed, err
		}
		pushed++
	}
	return pushed, nil
}
