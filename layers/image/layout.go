package image

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// AnnotationSubject is what containerd, and so buildx, notes with an entry of a layout's
// index.json that is not an image of its own: what it refers to.
const AnnotationSubject = "io.containerd.manifest.subject"

// SplitLayout tells the images in the index.json of a layout from what refers to others.
// The specification leaves open where that is, so it is found as tools keep it: as an
// entry without a name whose manifest has a subject (oras, buildx and sinter), and in an
// index under the fallback tag (regclient). read returns a manifest or index of the
// layout, verified; what it cannot read counts as an image. If no image is left, all
// entries count as images.
func SplitLayout(entries []ocispec.Descriptor, read func(ocispec.Descriptor) ([]byte, error)) (images []ocispec.Descriptor, referrers []manifest.Referrer) {
	seen := map[digest.Digest]bool{}
	add := func(d ocispec.Descriptor) bool {
		doc := parseEntry(d, read)
		if doc == nil || doc.Subject == nil {
			return false
		}
		if !seen[d.Digest] {
			seen[d.Digest] = true
			referrers = append(referrers, manifest.Referrer{Subject: doc.Subject.Digest, Desc: doc.Referrer()})
		}
		return true
	}
	for _, d := range entries {
		switch name := d.Annotations[ocispec.AnnotationRefName]; {
		case isFallbackTag(name):
			if doc := parseEntry(d, read); doc != nil {
				for _, m := range doc.Manifests {
					add(m)
				}
			}
		case name != "" || d.Annotations[annotationFull] != "" || !add(d):
			images = append(images, d)
		}
	}
	if len(images) == 0 {
		return entries, nil
	}
	return images, referrers
}

// parseEntry reads a manifest or index; nil if it cannot.
func parseEntry(d ocispec.Descriptor, read func(ocispec.Descriptor) ([]byte, error)) *manifest.Document {
	data, err := read(d)
	if err != nil {
		return nil
	}
	doc, err := manifest.Parse(d, data)
	if err != nil {
		return nil
	}
	return doc
}

// isFallbackTag reports whether a name can only be that of a list of referrers.
func isFallbackTag(name string) bool {
	subject, ok := SubjectOf(name)
	return ok && subject.Algorithm() == digest.SHA256
}
