package imagetools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/source/image"
)

// maxReferrers is how many manifests may refer to an image, in all.
const maxReferrers = 1000

// Referrer is a manifest, where it is, that says of itself or of which is said that it
// refers to Subject. It is what registry.Client.PushReferrer takes.
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
	return i.referrersOf(ctx, subjects, i.places)
}

// AllReferrers lists also what refers to attestations in the index, to referrers, and so
// on. It reads their manifests: they say of themselves what they refer to.
func (i *Image) AllReferrers(ctx context.Context) ([]Referrer, error) {
	subjects, err := i.subjects(ctx, func(ocispec.Descriptor) bool { return true })
	if err != nil {
		return nil, err
	}
	var list []Referrer
	seen := map[digest.Digest]bool{}
	for _, d := range subjects {
		seen[d] = true // what is in the index comes along with it
	}
	from := i.places
	for depth := 0; depth < manifest.MaxNesting && len(subjects) > 0; depth++ {
		found, more := i.referrersOf(ctx, subjects, from)
		err = cmp.Or(err, more)
		subjects = nil
		for _, r := range found {
			if seen[r.root.Digest] {
				continue
			}
			if seen[r.root.Digest] = true; len(list) == maxReferrers {
				return list, fmt.Errorf("more than %d manifests refer to it", maxReferrers)
			}
			if _, wrong := r.document(ctx); wrong != nil {
				err = cmp.Or(err, wrong)
				continue
			}
			list, subjects = append(list, r), append(subjects, r.root.Digest)
		}
		from = func(d digest.Digest) []Place {
			at := slices.IndexFunc(list, func(r Referrer) bool { return r.root.Digest == d })
			return []Place{list[at].From}
		}
	}
	return list, err
}

// document reads a referrer's manifest, which must say what was said of it.
func (r *Referrer) document(ctx context.Context) (*manifest.Document, error) {
	data, err := r.Blob(ctx, r.root)
	var d *manifest.Document
	if err == nil {
		d, err = manifest.Parse(r.root, data)
	}
	if err == nil && (d.Subject == nil || d.Subject.Digest != r.Subject) {
		err = errors.New("it does not say so")
	}
	if err != nil {
		return nil, fmt.Errorf("manifest %s, which refers to %s: %w", r.root.Digest, r.Subject, err)
	}
	return d, nil
}

// subjects are the image and those manifests of its index, or indexes, that want takes.
func (i *Image) subjects(ctx context.Context, want func(ocispec.Descriptor) bool) ([]digest.Digest, error) {
	list := []digest.Digest{i.root.Digest}
	err := manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return i.Blob(ctx, d) },
		Want: func(d ocispec.Descriptor) (bool, error) {
			if want(d) && !slices.Contains(list, d.Digest) {
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
func (i *Image) referrersOf(ctx context.Context, subjects []digest.Digest, from func(digest.Digest) []Place) ([]Referrer, error) {
	lists, failed := make([][]Referrer, len(subjects)), make([]error, len(subjects))
	var group errgroup.Group
	group.SetLimit(8)
	for n, subject := range subjects {
		group.Go(func() error {
			for _, place := range from(subject) {
				found, err := place.referrers(ctx, i.client, subject)
				failed[n] = cmp.Or(failed[n], err)
				for _, d := range found {
					if !slices.ContainsFunc(lists[n], func(r Referrer) bool { return r.root.Digest == d.Digest }) {
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
