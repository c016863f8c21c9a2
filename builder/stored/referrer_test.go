package stored_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// putReferrer keeps a manifest about subject with one blob, and the list that names it.
// Its types are those of an image, as in BuildKit's attestations.
func putReferrer(t *testing.T, s *store.Store, images *image.Images, subject ocispec.Descriptor, what string) (ocispec.Descriptor, ocispec.Descriptor) {
	t.Helper()
	put := func(data []byte, mediaType string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := s.Blobs.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	blob := put([]byte(what), "application/vnd.in-toto+json")
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: put([]byte(`{"architecture":"unknown"}`), ocispec.MediaTypeImageConfig), Layers: []ocispec.Descriptor{blob}, Subject: &subject,
	})
	if err != nil {
		t.Fatal(err)
	}
	desc := put(data, ocispec.MediaTypeImageManifest)
	if err := images.AddReferrers(t.Context(), manifest.Referrer{Subject: subject.Digest, Desc: desc}); err != nil {
		t.Fatal(err)
	}
	return desc, blob
}

// Referrers of an image, and of those, come with all their blobs. What is missing of one
// is known, and what does not refer to its subject is damage.
func TestReferrers(t *testing.T) {
	s := exporttest.OpenStore(t)
	images := image.Open(s.Root(), s)
	subject, err := s.Blobs.Add(t.Context(), []byte(`{}`), ocispec.MediaTypeImageManifest)
	if err != nil {
		t.Fatal(err)
	}
	one, blob := putReferrer(t, s, images, subject, "one")
	two, _ := putReferrer(t, s, images, subject, "two")
	three, _ := putReferrer(t, s, images, one, "three")
	list, err := stored.Referrers(t.Context(), s, images, subject.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var got []digest.Digest
	for _, r := range list {
		got = append(got, r.Digest())
		blobs := r.Blobs()
		if len(blobs) != 3 || blobs[2].Digest != r.Digest() || len(r.Missing) > 0 || r.Doc == nil {
			t.Errorf("%s has %v, missing %v", r.Digest(), blobs, r.Missing)
		}
	}
	if want := []digest.Digest{one.Digest, two.Digest, three.Digest}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	path := func(d ocispec.Descriptor) string {
		return filepath.Join(s.Root(), "blobs/sha256", d.Digest.Encoded())
	}
	if err := errors.Join(os.Remove(path(blob)), os.Remove(path(two))); err != nil {
		t.Fatal(err)
	}
	list, err = stored.Referrers(t.Context(), s, images, subject.Digest)
	if err != nil || len(list) != 3 || len(list[0].Missing) != 1 || len(list[1].Missing) != 1 || len(list[2].Missing) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	for _, d := range []ocispec.Descriptor{one, two} {
		if err := stored.CheckReferrer(t.Context(), s, manifest.Referrer{Subject: subject.Digest, Desc: d}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", d.Digest, err)
		}
	}
	if err := stored.CheckReferrer(t.Context(), s, manifest.Referrer{Subject: one.Digest, Desc: three}); err != nil {
		t.Error(err)
	}
	other := digest.FromString("other")
	if err := images.AddReferrers(t.Context(), manifest.Referrer{Subject: other, Desc: three}); err != nil {
		t.Fatal(err)
	}
	if _, err := stored.Referrers(t.Context(), s, images, other); !errors.Is(err, image.ErrDamaged) {
		t.Errorf("a referrer of something else: %v", err)
	}
}

// An attestation of an index, also as an OCI artifact, is not an image.
func TestAttestationArtifactIsNotAnImage(t *testing.T) {
	s := exporttest.OpenStore(t)
	images := image.Open(s.Root(), s)
	subject, err := s.Blobs.Add(t.Context(), []byte(`{}`), ocispec.MediaTypeImageManifest)
	if err != nil {
		t.Fatal(err)
	}
	desc, _ := putReferrer(t, s, images, subject, "one")
	desc.ArtifactType = manifest.AttestationType
	data, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{desc}})
	if err != nil {
		t.Fatal(err)
	}
	index, err := s.Blobs.Add(t.Context(), data, ocispec.MediaTypeImageIndex)
	if err != nil {
		t.Fatal(err)
	}
	img, err := stored.Open(t.Context(), s, index)
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Manifests) != 0 || len(img.Blobs()) != 4 || !slices.Equal(img.Subjects(), []digest.Digest{index.Digest, desc.Digest}) {
		t.Errorf("images %v, blobs %v, subjects %v", img.Manifests, img.Blobs(), img.Subjects())
	}
}
