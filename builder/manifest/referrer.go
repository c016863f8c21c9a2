package manifest

import (
	"cmp"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxReferrers is how many manifests may refer to an image, its parts, and each other.
const MaxReferrers = 1000

// Referrer is a manifest or index that is said to refer to another.
type Referrer struct {
	Subject digest.Digest
	Desc    ocispec.Descriptor
}

// Check refuses a document that does not say itself what was said of it.
func (r Referrer) Check(d *Document) error {
	if d.Subject == nil || d.Subject.Digest != r.Subject {
		return fmt.Errorf("manifest %s does not refer to %s", r.Desc.Digest, r.Subject)
	}
	return nil
}

// Referrer describes d as lists of referrers do, by distribution-spec 1.1: with what the
// manifest says that it is of, and its annotations.
func (d *Document) Referrer() ocispec.Descriptor {
	r := ocispec.Descriptor{
		MediaType: d.Desc.MediaType, Digest: d.Desc.Digest, Size: int64(len(d.Data)),
		ArtifactType: d.ArtifactType, Annotations: d.Annotations,
	}
	if r.ArtifactType == "" && d.Config != nil {
		r.ArtifactType = d.Config.MediaType
	}
	return r
}

// FallbackTag is the tag under which a registry without an API for referrers has the
// index of those of a manifest.
func FallbackTag(subject digest.Digest) string {
	hex := subject.Encoded()
	return string(subject.Algorithm()) + "-" + hex[:min(len(hex), 64)]
}

// WalkReferrers goes from subjects to what refers to them, to that, and so on. list
// returns what is said to refer to some manifests. visit gets each manifest once, and again
// when it failed before and the manifest is said to refer to something else. Subjects come
// before what refers to them, and are not visited themselves. What refers to a manifest
// that failed is left out; the first error is returned at the end.
func WalkReferrers(subjects []digest.Digest, list func([]digest.Digest) ([]Referrer, error), visit func(Referrer) error) error {
	done := map[digest.Digest]bool{}
	for _, d := range subjects {
		done[d] = true
	}
	var failed error
	visits := 0
	for depth := 0; depth < MaxNesting && len(subjects) > 0; depth++ {
		found, err := list(subjects)
		failed = cmp.Or(failed, err)
		subjects = nil
		for _, r := range found {
			if done[r.Desc.Digest] {
				continue
			}
			if visits++; visits > MaxReferrers {
				return fmt.Errorf("more than %d manifests refer to the image", MaxReferrers)
			}
			if err := visit(r); err != nil {
				failed = cmp.Or(failed, err)
				continue
			}
			done[r.Desc.Digest] = true
			subjects = append(subjects, r.Desc.Digest)
		}
	}
	return failed
}
