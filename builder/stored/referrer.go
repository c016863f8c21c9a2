package stored

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// Referrer is a manifest of the store that is about a manifest or index: it is what
// registry.PushReferrers takes. Some of it may be Missing.
type Referrer struct {
	*Image
	Subject digest.Digest
	// Doc is the manifest; nil if it is missing itself.
	Doc *manifest.Document
}

// Subjects are the manifests and indexes of the image, the root first, as far as they are
// in the store: what others may refer to.
func (b *Image) Subjects() []digest.Digest {
	list := []digest.Digest{b.Desc.Digest}
	for _, m := range b.Manifests {
		if m.Desc.Digest != b.Desc.Digest {
			list = append(list, m.Desc.Digest)
		}
	}
	for _, d := range b.attached {
		if manifest.IsManifest(d.MediaType) && d.Digest != b.Desc.Digest {
			list = append(list, d.Digest)
		}
	}
	return list
}

// Referrers returns what the store has that refers to one of subjects, to that, and so
// on, but not the subjects themselves. A manifest comes before what refers to it.
func Referrers(ctx context.Context, s *store.Store, images *image.Images, subjects ...digest.Digest) (list []Referrer, err error) {
	find := func(subjects []digest.Digest) (found []manifest.Referrer, err error) {
		for _, subject := range subjects {
			descs, err := images.Referrers(subject)
			if err != nil {
				return nil, err
			}
			for _, d := range descs {
				found = append(found, manifest.Referrer{Subject: subject, Desc: d})
			}
		}
		return found, nil
	}
	err = manifest.WalkReferrers(subjects, find, func(named manifest.Referrer) error {
		r, err := openReferrer(ctx, s, named)
		list = append(list, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Beside returns what refers to the image or a part of it and is not in its index. What is
// damaged, or not in the store as a whole, is left out; warn is told of that, with the name
// that people know the image by.
func (b *Image) Beside(ctx context.Context, images *image.Images, name string, warn func(text string)) ([]Referrer, error) {
	list, err := Referrers(ctx, b.Store, images, b.Subjects()...)
	if errors.Is(err, image.ErrDamaged) {
		warn(fmt.Sprintf("image %s is used without what refers to it: %v; sinter verify --repair removes what is damaged", name, err))
		return nil, nil
	}
	return slices.DeleteFunc(list, func(r Referrer) bool {
		if len(r.Missing) > 0 {
			warn(fmt.Sprintf("image %s is used without %s, which refers to it: it is not in the store as a whole; a pull gets what the registry has of it", name, r.Desc.Digest))
		}
		return len(r.Missing) > 0
	}), err
}

// openReferrer reads a referrer. What its manifest lists are blobs, also where the media
// types are those of an image.
func openReferrer(ctx context.Context, s *store.Store, named manifest.Referrer) (Referrer, error) {
	desc := named.Desc
	r := Referrer{Image: &Image{Store: s, Desc: desc}, Subject: named.Subject}
	if err := s.ClaimImage(desc.Digest); err != nil {
		return r, err
	}
	if !s.Blobs.Has(desc) {
		r.Missing = append(r.Missing, desc)
		return r, nil
	}
	err := r.walk(ctx, desc, func(d *manifest.Document) error {
		if d.Desc.Digest == desc.Digest {
			if err := named.Check(d); err != nil {
				return fmt.Errorf("%w: %w", err, image.ErrDamaged)
			}
			r.Doc = d
		}
		r.attach(d)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("what refers to %s: %w", named.Subject, err)
	}
	return r, nil
}

// Entry is the referrer as an entry of an OCI layout, which says what it refers to.
func (r Referrer) Entry() *Image {
	entry := *r.Image
	entry.Desc.Annotations = image.WithoutOwn(r.Desc.Annotations)
	if entry.Desc.Annotations == nil {
		entry.Desc.Annotations = map[string]string{}
	}
	entry.Desc.Annotations[image.AnnotationSubject] = r.Subject.String()
	return &entry
}

// CheckReferrer says what is wrong with a referrer of the store; nil if it is whole.
func CheckReferrer(ctx context.Context, s *store.Store, named manifest.Referrer) error {
	r, err := openReferrer(ctx, s, named)
	if err == nil && len(r.Missing) > 0 {
		err = fmt.Errorf("manifest %s is missing or lacks a blob: %w", named.Desc.Digest, fs.ErrNotExist)
	}
	return err
}
