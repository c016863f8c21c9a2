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

// needs finds the blobs and layers of an image, and of what refers to it or to a part of
// it, however deep that is nested: limits are for what comes into a store. What is damaged
// or missing of it needs nothing more, but what else it names stays. Any other failure to
// read is an error: what a file says that could not be read just now, nobody may remove.
func needs(images *image.Images, img image.Image) (Image, error) {
	n := Image{Image: img, Blobs: map[digest.Digest]bool{}, DiffIDs: map[digest.Digest]bool{}}
	// Not only Blobs tells what was read: a manifest may be a layer of another.
	read := map[digest.Digest]bool{}
	for unread := []digest.Digest{img.Desc.Digest}; len(unread) > 0; {
		d := unread[len(unread)-1]
		unread = unread[:len(unread)-1]
		if read[d] {
			continue
		}
		read[d] = true
		found, err := n.add(images, d)
		if err != nil {
			return n, fmt.Errorf("what image %s needs: %w", img.Desc.Digest, err)
		}
		unread = append(unread, found...)
	}
	return n, nil
}

// add adds a document with what it names, and returns the documents among that and those
// that refer to it.
func (n *Image) add(images *image.Images, of digest.Digest) (found []digest.Digest, err error) {
	n.Blobs[of] = true
	if of.Validate() != nil {
		return nil, nil
	}
	referrers, err := images.Referrers(of)
	if err != nil && !errors.Is(err, image.ErrDamaged) {
		return nil, err
	}
	for _, r := range referrers {
		found = append(found, r.Digest)
	}
	data, err := images.ReadBlob(ocispec.Descriptor{Digest: of})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, image.ErrDamaged) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	var d document
	// A config may have other things by these names. What else it says was read then.
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(data, &d); err != nil && !errors.As(err, &wrongType) {
		return found, nil
	}
	for _, id := range d.RootFS.DiffIDs {
		n.DiffIDs[id] = true
	}
	for _, l := range d.Layers {
		n.Blobs[l.Digest] = true
	}
	for _, m := range d.Manifests {
		found = append(found, m.Digest)
	}
	if d.Config.Digest != "" {
		found = append(found, d.Config.Digest)
	}
	return found, nil
}
