package stored

import (
	"context"
	"fmt"
	"io/fs"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// Referrer is a manifest of the store that is about a manifest or index: it is what
// registry.Client.PushReferrer takes. Some of it may be Missing.
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
// on: subjects come before what refers to them.
func Referrers(ctx context.Context, s *store.Store, images *image.Images, subjects ...digest.Digest) ([]Referrer, error) {
	var list []Referrer
	seen := map[digest.Digest]bool{}
	for depth := 0; depth < manifest.MaxNesting && len(subjects) > 0; depth++ {
		var next []digest.Digest
		for _, subject := range subjects {
			found, err := images.Referrers(subject)
			if err != nil {
				return nil, err
			}
			for _, desc := range found {
				if seen[desc.Digest] {
					continue
				}
				seen[desc.Digest] = true
				r, err := openReferrer(ctx, s, subject, desc)
				if err != nil {
					return nil, err
				}
				list, next = append(list, r), append(next, desc.Digest)
			}
		}
		subjects = next
	}
	return list, nil
}

// Beside returns what refers to the image or a part of it and is not in its index. What is
// not in the store as a whole comes as partly.
func (b *Image) Beside(ctx context.Context, images *image.Images) (whole, partly []Referrer, err error) {
	all, err := Referrers(ctx, b.Store, images, b.Subjects()...)
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	inside := map[digest.Digest]bool{}
	for _, d := range b.Blobs() {
		inside[d.Digest] = true
	}
	for _, r := range all {
		switch {
		case len(r.Missing) > 0:
			partly = append(partly, r)
		case !inside[r.Desc.Digest]:
			whole = append(whole, r)
		}
	}
	return whole, partly, nil
}

// openReferrer reads a referrer. What its manifest lists are blobs, also where the media
// types are those of an image.
func openReferrer(ctx context.Context, s *store.Store, subject digest.Digest, desc ocispec.Descriptor) (Referrer, error) {
	r := Referrer{Image: &Image{Store: s, Desc: desc}, Subject: subject}
	if err := s.ClaimImage(desc.Digest); err != nil {
		return r, err
	}
	if !s.Blobs.Has(desc) {
		r.Missing = append(r.Missing, desc)
		return r, nil
	}
	err := r.walk(ctx, desc, func(d *manifest.Document) error {
		if d.Desc.Digest == desc.Digest {
			if d.Subject == nil || d.Subject.Digest != subject {
				return fmt.Errorf("it does not say so: %w", image.ErrDamaged)
			}
			r.Doc = d
		}
		r.attach(d)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("manifest %s, which refers to %s: %w", desc.Digest, subject, err)
	}
	return r, nil
}

// Entry is the referrer as an entry of an OCI layout, which says what it refers to.
func (r Referrer) Entry() *Image {
	entry := *r.Image
	entry.Desc.Annotations = maps.Clone(r.Desc.Annotations)
	if entry.Desc.Annotations == nil {
		entry.Desc.Annotations = map[string]string{}
	}
	entry.Desc.Annotations[image.AnnotationSubject] = r.Subject.String()
	return &entry
}

// CheckReferrer says what is wrong with a referrer of the store; nil if it is whole.
func CheckReferrer(ctx context.Context, s *store.Store, subject digest.Digest, desc ocispec.Descriptor) error {
	r, err := openReferrer(ctx, s, subject, desc)
	if err == nil && len(r.Missing) > 0 {
		err = fmt.Errorf("manifest %s is missing or lacks a blob: %w", desc.Digest, fs.ErrNotExist)
	}
	return err
}
