package imagetools

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
)

// Image is an image whose parts are in registries and OCI layouts. It is what
// registry.Client.Push takes.
type Image struct {
	client *registry.Client
	root   ocispec.Descriptor

	mu   sync.Mutex
	docs map[digest.Digest][]byte
	// from says where a manifest or blob is.
	from map[digest.Digest][]Place
}

func newImage(client *registry.Client) *Image {
	return &Image{client: client, docs: map[digest.Digest][]byte{}, from: map[digest.Digest][]Place{}}
}

// Find is an image as it is.
func Find(ctx context.Context, client *registry.Client, place Place) (*Image, error) {
	desc, data, err := place.resolve(ctx, client)
	if err != nil {
		return nil, err
	}
	img := newImage(client)
	img.root = desc
	img.add(read{desc: desc, from: place, data: data})
	img.from[desc.Digest] = []Place{place}
	return img, nil
}

// Root describes the index or the manifest.
func (i *Image) Root() ocispec.Descriptor { return i.root }

// Data is the index or the manifest.
func (i *Image) Data() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.docs[i.root.Digest]
}

// add notes a manifest, and that what it names is where it is itself.
func (i *Image) add(r read) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.docs[r.desc.Digest] = r.data
	var m struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	// One that cannot be read fails where its parts are needed.
	if json.Unmarshal(r.data, &m) != nil {
		return
	}
	for _, d := range append(append(m.Manifests, m.Config), m.Layers...) {
		i.noteAt(d.Digest, r.from)
	}
}

// noteAt notes where a manifest or blob is. The caller holds the lock.
func (i *Image) noteAt(d digest.Digest, place Place) {
	if known := i.from[d]; !slices.ContainsFunc(known, place.isAt) {
		i.from[d] = append(known, place)
	}
}

// Origins are repositories that have the blob.
func (i *Image) Origins(d digest.Digest) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var list []string
	for _, place := range i.from[d] {
		if place.Layout == "" {
			list = append(list, place.Ref.Repository())
		}
	}
	return list
}

// Open reads a manifest, config or layer from where it is.
func (i *Image) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("manifest or blob %q: %w", desc.Digest, err)
	}
	i.mu.Lock()
	data, ok := i.docs[desc.Digest]
	from := i.from[desc.Digest]
	i.mu.Unlock()
	if ok {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	err := fmt.Errorf("no source has %s", desc.Digest)
	for _, place := range from {
		var r io.ReadCloser
		if r, err = i.openAt(ctx, place, desc); err == nil {
			return r, nil
		}
	}
	return nil, err
}

func (i *Image) openAt(ctx context.Context, place Place, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if !manifest.IsManifest(desc.MediaType) {
		return place.open(ctx, i.client, desc)
	}
	place = place.At(desc.Digest)
	got, data, err := place.resolve(ctx, i.client)
	if err != nil {
		return nil, err
	}
	i.add(read{desc: got, from: place, data: data})
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Blob reads a manifest, a config or another small blob, verified.
func (i *Image) Blob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if manifest.IsManifest(desc.MediaType) {
		r, err := i.Open(ctx, desc)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		return data, errors.Join(err, r.Close())
	}
	i.mu.Lock()
	from := i.from[desc.Digest]
	i.mu.Unlock()
	err := fmt.Errorf("no source has %s", desc.Digest)
	for _, place := range from {
		var data []byte
		if data, err = place.read(ctx, i.client, desc); err == nil {
			return data, nil
		}
	}
	return nil, err
}
