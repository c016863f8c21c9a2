package imagetools

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/source/image"
)

// Referrer is a manifest in a registry or layout that refers to Subject, or is listed
// there as if it did. registry.PushReferrers takes it.
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

// referrersOf asks all places where subjects are. With an error it also returns what could
// be had, but nothing when ctx is done.
func (i *Image) referrersOf(ctx context.Context, subjects []digest.Digest) ([]Referrer, error) {
	places := make([][]Place, len(subjects))
	var asked []registry.Ref
	for n, subject := range subjects {
		places[n] = i.places(subject)
		for _, p := range places[n] {
			if p.Layout == "" {
				asked = append(asked, p.At(subject).Ref)
			}
		}
	}
	answers, err := i.client.ReferrersOf(ctx, asked)
	if ctx.Err() != nil {
		return nil, err
	}
	var list []Referrer
	for n, subject := range subjects {
		seen := map[digest.Digest]bool{}
		for _, p := range places[n] {
			var found []ocispec.Descriptor
			if p.Layout == "" {
				found, answers = answers[0], answers[1:]
			} else {
				var wrong error
				found, wrong = image.Layout{Dir: p.Layout}.Referrers(subject)
				err = cmp.Or(err, wrong)
			}
			for _, d := range found {
				if !seen[d.Digest] {
					seen[d.Digest] = true
					list = append(list, newReferrer(i.client, subject, d, p))
				}
			}
		}
	}
	return list, err
}

func newReferrer(client *registry.Client, subject digest.Digest, desc ocispec.Descriptor, from Place) Referrer {
	r := Referrer{Image: newImage(client), Subject: subject, From: from}
	r.root = desc
	r.from[desc.Digest] = []Place{from}
	return r
}

// PushReferrers pushes what refers to an image into the repository of a new one, unless it
// is there already.
func PushReferrers(ctx context.Context, client *registry.Client, list []Referrer, target registry.Ref) (pushed int, err error) {
	list = slices.DeleteFunc(slices.Clone(list), func(r Referrer) bool { return r.From.isAt(Place{Ref: target}) })
	went, err := registry.PushReferrers(ctx, client, target.Repository(), list, nil, nil)
	return len(went), err
}
