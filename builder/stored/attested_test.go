package stored

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestOrderOfAttestations: what the image's own index says comes before what referrers say
// of the same kind, whatever the digests are.
func TestOrderOfAttestations(t *testing.T) {
	said := func(kind string, isReferrer bool, d digest.Digest) Attestation {
		return Attestation{Kind: kind, IsReferrer: isReferrer, Desc: ocispec.Descriptor{Digest: d}}
	}
	list := []Attestation{
		said("packages", false, "sha256:0"), said("origin", true, "sha256:3"), said("origin", true, "sha256:1"), said("origin", false, "sha256:2"),
	}
	slices.SortFunc(list, Attestation.compare)
	var got []digest.Digest
	for _, a := range list {
		got = append(got, a.Desc.Digest)
	}
	if want := []digest.Digest{"sha256:2", "sha256:1", "sha256:3", "sha256:0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
