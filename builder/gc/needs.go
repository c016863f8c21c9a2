package gc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers/image"
)

// document is what an index, a manifest or a config may say of what it needs.
type document struct {
	Manifests []ocispec.Descriptor `json:"manifests"`
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	RootFS    struct {
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

// maxNesting is how deep indexes may hold indexes.
const maxNesting = 8

// needs finds the blobs and layers of an image, and of what refers to it or to a part of
// it. What is damaged or missing of it needs nothing more, but what else it names stays.
// Any other failure to read is an error: what a file says that could not be read just now,
// nobody may remove.
func needs(images *image.Images, img image.Image) (Image, error) {
	n := Image{Image: img, Blobs: map[digest.Digest]bool{}, DiffIDs: map[digest.Digest]bool{}}
	if err := n.add(images, img.Desc, maxNesting); err != nil {
		return n, fmt.Errorf("what image %s needs: %w", img.Desc.Digest, err)
	}
	return n, nil
}

func (n *Image) add(images *image.Images, desc ocispec.Descriptor, depth int) error {
	if n.Blobs[desc.Digest] || depth == 0 {
		return nil
	}
	n.Blobs[desc.Digest] = true
	if err := n.addReferrers(images, desc.Digest, depth); err != nil {
		return err
	}
	data, err := images.ReadBlob(desc)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, image.ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	var d document
	if json.Unmarshal(data, &d) != nil {
		return nil
	}
	for _, id := range d.RootFS.DiffIDs {
		n.DiffIDs[id] = true
	}
	for _, l := range d.Layers {
		n.Blobs[l.Digest] = true
	}
	for _, m := range d.Manifests {
		if err := n.add(images, m, depth-1); err != nil {
			return err
		}
	}
	if d.Config.Digest == "" {
		return nil
	}
	return n.add(images, d.Config, depth-1)
}

// addReferrers adds what refers to a manifest or index. A referrer counts as no deeper than
// its subject, so that all of a long chain stays.
func (n *Image) addReferrers(images *image.Images, subject digest.Digest, depth int) error {
	if subject.Validate() != nil {
		return nil
	}
	list, err := images.Referrers(subject)
	if err != nil && !errors.Is(err, image.ErrDamaged) {
		return err
	}
	for _, r := range list {
		if err := n.add(images, r, depth); err != nil {
			return err
		}
	}
	return nil
}
