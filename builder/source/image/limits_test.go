package image

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// blobSource is an image in memory that can be pushed.
type blobSource struct {
	root  ocispec.Descriptor
	blobs map[digest.Digest][]byte
}

func (b *blobSource) Root() ocispec.Descriptor       { return b.root }
func (b *blobSource) Origins(digest.Digest) []string { return nil }

func (b *blobSource) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := b.blobs[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (b *blobSource) put(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	b.blobs[d.Digest] = data
	return d
}

// imageWith returns an image without layers whose config has about size bytes.
func imageWith(t *testing.T, size int) *blobSource {
	b := &blobSource{blobs: map[digest.Digest][]byte{}}
	var config ocispec.Image
	config.OS, config.Architecture = "linux", "amd64"
	config.RootFS.Type = "layers"
	config.Author = strings.Repeat("a", size)
	b.root = b.put(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: b.put(t, ocispec.MediaTypeImageConfig, config),
	})
	b.root.Platform = &config.Platform
	return b
}

// wrap makes an index the root, n times.
func (b *blobSource) wrap(t *testing.T, n int) *blobSource {
	for range n {
		b.root = b.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{
			MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{b.root},
		})
	}
	return b
}

// with makes an index of the root and n entries that attest something of it.
func (b *blobSource) with(t *testing.T, n int) *blobSource {
	about := b.put(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: b.put(t, ocispec.MediaTypeImageConfig, struct{}{}),
	})
	about.Annotations = map[string]string{manifest.ReferenceType: manifest.Attestation}
	b.root = b.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		MediaType: ocispec.MediaTypeImageIndex, Manifests: append(slices.Repeat([]ocispec.Descriptor{about}, n), b.root),
	})
	return b
}

// What can be pushed can be pulled, up to each limit; beyond it the push is refused.
func TestWhatPushesAlsoPulls(t *testing.T) {
	for _, c := range []struct {
		name  string
		image *blobSource
		ok    bool
	}{
		{"config of 9 MiB", imageWith(t, 9<<20), true},
		{"config of nearly the most", imageWith(t, manifest.MaxBytes-1000), true},
		{"config that is too large", imageWith(t, manifest.MaxBytes), false},
		{"nested", imageWith(t, 1).wrap(t, manifest.MaxNesting), true},
		{"nested too deep", imageWith(t, 1).wrap(t, manifest.MaxNesting+1), false},
		{"2000 entries", imageWith(t, 1).with(t, 2000), true},
		{"too many entries", imageWith(t, 1).with(t, manifest.MaxEntries), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newImageWorld(t)
			ref := w.host + "/a:1"
			err := w.images.client.Push(t.Context(), ref, c.image, nil)
			if (err == nil) != c.ok {
				t.Fatalf("push: %v", err)
			}
			if !c.ok {
				return
			}
			amd := platforms.MustParse("linux/amd64")
			if _, err := w.images.Resolve(t.Context(), ref, &amd, false); err != nil {
				t.Errorf("pull: %v", err)
			}
		})
	}
}

// A document that is a manifest and an index is neither, whatever the registry
// calls it.
func TestAmbiguousManifest(t *testing.T) {
	for _, data := range []string{
		`{"schemaVersion":2,"config":{},"layers":[],"manifests":[{}]}`,
		`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{},"manifests":[]}`,
		`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","config":{},"manifests":[]}`,
	} {
		for _, said := range []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, "", "application/json"} {
			if kind, err := kindOf([]byte(data), said); err == nil || !strings.Contains(err.Error(), "claims to be an index as well") {
				t.Errorf("%s as %q: got %q, %v", data, said, kind, err)
			}
		}
	}
	// What it says of itself goes before what the registry says.
	data := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{}}`
	if kind, err := kindOf([]byte(data), ocispec.MediaTypeImageIndex); err != nil || kind != ocispec.MediaTypeImageManifest {
		t.Errorf("got %q, %v", kind, err)
	}
}
