package imagetools

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// filter leaves out what is not for the wanted platforms.
func (o Options) filter(root read) (read, error) {
	if len(o.Platforms) == 0 {
		return root, nil
	}
	wanted := platforms.Any(o.Platforms...)
	if !manifest.IsIndex(root.desc.MediaType) {
		p := root.desc.Platform
		if p == nil {
			return root, errors.New("the image does not say its platform, so none can be chosen")
		}
		if !wanted.Match(*p) {
			return root, fmt.Errorf("the image is for %s, which is not wanted", platforms.FormatAll(*p))
		}
		return root, nil
	}
	var index ocispec.Index
	if err := json.Unmarshal(root.data, &index); err != nil {
		return root, fmt.Errorf("reading the index: %w", err)
	}
	byDigest := make(map[digest.Digest]ocispec.Descriptor, len(index.Manifests))
	for _, d := range index.Manifests {
		byDigest[d.Digest] = d
	}
	fits := func(d ocispec.Descriptor) bool { return d.Platform == nil || wanted.Match(*d.Platform) }
	kept := slices.DeleteFunc(slices.Clone(index.Manifests), func(d ocispec.Descriptor) bool {
		subject, ok := subjectOf(byDigest, d)
		return !fits(d) && !(ok && fits(subject))
	})
	if len(kept) == 0 {
		return root, errors.New("the image is for none of the wanted platforms")
	}
	if len(kept) == len(index.Manifests) {
		return root, nil
	}
	index.Manifests = kept
	if index.MediaType == "" {
		index.MediaType = root.desc.MediaType
	}
	return encode(index, root.from)
}

// subjectOf is the manifest that an attestation is about.
func subjectOf(byDigest map[digest.Digest]ocispec.Descriptor, d ocispec.Descriptor) (ocispec.Descriptor, bool) {
	if d.Annotations[manifest.ReferenceType] != manifest.Attestation {
		return ocispec.Descriptor{}, false
	}
	subject, ok := byDigest[digest.Digest(d.Annotations[manifest.ReferenceDigest])]
	return subject, ok
}
