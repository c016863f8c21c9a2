package image

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// Referrers are found however tools keep them in a layout; images are images.
func TestSplitLayout(t *testing.T) {
	blobs := map[digest.Digest][]byte{}
	put := func(mediaType string, v any) ocispec.Descriptor {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		blobs[d.Digest] = data
		return d
	}
	read := func(d ocispec.Descriptor) ([]byte, error) {
		if data, ok := blobs[d.Digest]; ok {
			return manifest.Read(bytes.NewReader(data), d)
		}
		return nil, fs.ErrNotExist
	}
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("config"), Size: 6}
	img := put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config})
	about := func(what string) ocispec.Descriptor {
		return put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, ArtifactType: what, Subject: &img})
	}
	named := func(d ocispec.Descriptor, name string) ocispec.Descriptor {
		d.Annotations = map[string]string{ocispec.AnnotationRefName: name}
		return d
	}
	noted := about("noted")
	noted.Annotations = map[string]string{AnnotationSubject: img.Digest.String()}
	listed := about("listed")
	list := named(put(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{listed, noted, img}}), manifest.FallbackTag(img.Digest))
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 6}
	for _, c := range []struct {
		name            string
		entries, images []ocispec.Descriptor
		referrers       []string
	}{
		{"nothing", nil, nil, nil},
		{"one image", []ocispec.Descriptor{img}, []ocispec.Descriptor{img}, nil},
		{"oras", []ocispec.Descriptor{about("plain"), named(img, "1")}, []ocispec.Descriptor{named(img, "1")}, []string{"plain"}},
		{"buildx", []ocispec.Descriptor{img, noted}, []ocispec.Descriptor{img}, []string{"noted"}},
		{"regclient", []ocispec.Descriptor{named(img, "1"), list}, []ocispec.Descriptor{named(img, "1")}, []string{"listed", "noted"}},
		{"all of them", []ocispec.Descriptor{img, noted, list, about("plain")}, []ocispec.Descriptor{img}, []string{"noted", "listed", "plain"}},
		{"one with a name is an image", []ocispec.Descriptor{img, named(noted, "signed")}, []ocispec.Descriptor{img, named(noted, "signed")}, nil},
		{"one alone too", []ocispec.Descriptor{noted}, []ocispec.Descriptor{noted}, nil},
		{"what is not there", []ocispec.Descriptor{absent, noted}, []ocispec.Descriptor{absent}, []string{"noted"}},
	} {
		images, found := SplitLayout(c.entries, read)
		var types []string
		for _, r := range found {
			types = append(types, r.Desc.ArtifactType)
			if r.Subject != img.Digest {
				t.Errorf("%s: %+v", c.name, r)
			}
		}
		sameEntry := func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }
		if !slices.Equal(types, c.referrers) || !slices.EqualFunc(images, c.images, sameEntry) {
			t.Errorf("%s: images %v, referrers %v", c.name, images, types)
		}
	}
}
