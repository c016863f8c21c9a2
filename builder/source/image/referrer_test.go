package image

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	refname "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
)

// about is a manifest, or an index of one, about subject.
func about(t *testing.T, subject ocispec.Descriptor, what string, asIndex bool) *blobSource {
	t.Helper()
	b := &blobSource{blobs: map[digest.Digest][]byte{}}
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/x-" + what,
		Config: b.put(t, ocispec.MediaTypeEmptyJSON, struct{}{}), Layers: []ocispec.Descriptor{b.put(t, "application/json", what)},
	}
	if !asIndex {
		m.Subject = &subject
	}
	b.root = b.put(t, ocispec.MediaTypeImageManifest, m)
	if asIndex {
		b.root = b.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{
			MediaType: ocispec.MediaTypeImageIndex, ArtifactType: "application/x-" + what, Subject: &subject, Manifests: []ocispec.Descriptor{b.root},
		})
	}
	return b
}

// What refers to an image is found, in several steps, and its manifests are kept. What is
// gone, or only said to refer to it, is an error and takes nothing else away.
func TestReferrersOfAnImage(t *testing.T) {
	w := newImageWorld(t)
	d := w.push("a:1", platformImage(t, "linux/amd64"))
	client := registry.New(registry.Config{Keychain: authn.NewMultiKeychain()})
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 1}
	refer := func(b *blobSource) ocispec.Descriptor {
		if err := client.PushReferrer(t.Context(), w.host+"/a", b, nil); err != nil {
			t.Fatal(err)
		}
		return b.root
	}
	one := refer(about(t, subject, "one", false))
	refer(about(t, subject, "index", true))
	refer(about(t, one, "two", false))
	find := func() (types string, blobs int, err error) {
		root, err := w.images.Root(t.Context(), w.host+"/a:1", ocispec.Platform{OS: "linux", Architecture: "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		list, err := w.images.Referrers(t.Context(), root)
		var names []string
		for _, r := range list {
			names = append(names, strings.TrimPrefix(r.Desc.ArtifactType, "application/x-"))
			blobs += len(r.Blobs)
			if !w.store.Blobs.Has(r.Desc) {
				t.Errorf("the manifest of %s was not kept", r.Desc.ArtifactType)
			}
		}
		return strings.Join(names, " "), blobs, err
	}
	if types, blobs, err := find(); types != "one index two" || blobs != 6 || err != nil {
		t.Errorf("got %q, %d blobs, %v", types, blobs, err)
	}
	// A list that has a referrer of something else.
	stranger := about(t, ocispec.Descriptor{Digest: digest.FromString("other")}, "stranger", false)
	gone := refer(about(t, subject, "gone", false))
	list, err := client.Referrers(t.Context(), registry.Ref{Host: w.host, Path: "a"}, d, "")
	if err != nil || len(list) != 3 {
		t.Fatalf("got %v, %v", list, err)
	}
	lie := &blobSource{blobs: stranger.blobs}
	for _, b := range []*blobSource{about(t, subject, "one", false), about(t, subject, "index", true), about(t, subject, "gone", false)} {
		for d, data := range b.blobs {
			lie.blobs[d] = data
		}
	}
	lie.root = lie.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: append(list, stranger.root)})
	if err := client.Push(t.Context(), w.host+"/a:"+manifest.FallbackTag(d), lie, nil); err != nil {
		t.Fatal(err)
	}
	if types, _, err := find(); types != "one index gone two" || err == nil || !strings.Contains(err.Error(), "does not refer to") {
		t.Errorf("got %q, %v", types, err)
	}
	ref, err := refname.ParseReference(w.host + "/a@" + gone.Digest.String())
	if err == nil {
		err = remote.Delete(ref)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Blobs.Remove(gone.Digest); err != nil {
		t.Fatal(err)
	}
	if types, _, err := find(); types != "one index two" || err == nil || !strings.Contains(err.Error(), gone.Digest.String()) {
		t.Errorf("got %q, %v", types, err)
	}
}
