package stored_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
)

// An image of several platforms is read with all its blobs, the root last, and each of
// its platforms can be had alone.
func TestOpenAndOnly(t *testing.T) {
	s := exporttest.OpenStore(t)
	var parts []assemble.Part
	for _, p := range []ocispec.Platform{exporttest.AMD64, exporttest.ARM64} {
		config, chain := exporttest.Sample(t, s, p)
		parts = append(parts, assemble.Part{Platform: p, Config: config, Chain: chain})
	}
	built, err := assemble.Image(t.Context(), s, parts, assemble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := stored.Open(t.Context(), s, built.Desc)
	if err != nil {
		t.Fatal(err)
	}
	blobs := img.Blobs()
	seen := map[digest.Digest]bool{}
	for i, d := range blobs {
		if seen[d.Digest] {
			t.Errorf("blob %s comes twice", d.Digest)
		}
		seen[d.Digest] = true
		if isRoot := d.Digest == img.Digest(); isRoot != (i == len(blobs)-1) {
			t.Errorf("blob %d of %d is the root: %t", i, len(blobs), isRoot)
		}
	}
	if got := img.Platforms(); !slices.Equal(got, []string{"linux/amd64", "linux/arm64"}) || len(img.Missing) > 0 {
		t.Errorf("it is for %q, missing %v", got, img.Missing)
	}
	one, err := img.Only(exporttest.ARM64)
	if err != nil || len(one.Manifests) != 1 || one.Digest() != img.Manifests[1].Desc.Digest {
		t.Errorf("got %+v, %v", one, err)
	}
	_, err = img.Only(ocispec.Platform{OS: "linux", Architecture: "s390x"})
	if err == nil || !strings.Contains(hint.Of(err), "linux/amd64, linux/arm64") {
		t.Errorf("for a platform that it has not: %v, hint %q", err, hint.Of(err))
	}
}
