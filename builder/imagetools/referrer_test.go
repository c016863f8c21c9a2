package imagetools

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// artifact is a manifest with its blobs in memory.
type artifact struct {
	root  ocispec.Descriptor
	blobs map[digest.Digest][]byte
}

func (a *artifact) Root() ocispec.Descriptor       { return a.root }
func (a *artifact) Origins(digest.Digest) []string { return nil }
func (a *artifact) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := a.blobs[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// refer pushes a manifest about subject whose layer has this type and content, and says
// with kind, if that is not "", what it states.
func (s *server) refer(t *testing.T, repository string, subject ocispec.Descriptor, mediaType, content, kind string) ocispec.Descriptor {
	t.Helper()
	a := &artifact{blobs: map[digest.Digest][]byte{}}
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		a.blobs[d.Digest] = data
		return d
	}
	layer := put(mediaType, []byte(content))
	if kind != "" {
		layer.Annotations = map[string]string{"in-toto.io/predicate-type": kind}
	}
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: manifest.AttestationType,
		Config: put(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{layer}, Subject: &subject,
	})
	if err != nil {
		t.Fatal(err)
	}
	a.root = put(ocispec.MediaTypeImageManifest, data)
	if err := newClient().PushReferrer(t.Context(), s.host+"/"+repository, a, nil); err != nil {
		t.Fatal(err)
	}
	return a.root
}

func stating(kind, predicate string) string {
	return fmt.Sprintf(`{"predicateType":%q,"predicate":%q}`, kind, predicate)
}

// Referrers attest as the index does. What is not an attestation, or is broken, costs
// nothing but itself.
func TestPartsFromReferrers(t *testing.T) {
	s := newServer(t)
	const slsa, dsse = manifest.PredicateSLSA + "v1", manifest.DSSE
	ref := s.push(t, "a:1", "linux/amd64", false)
	img, err := Find(t.Context(), newClient(), Place{Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	envelope := func(statement string) string {
		return `{"payload":"` + base64.StdEncoding.EncodeToString([]byte(statement)) + `"}`
	}
	s.refer(t, "a", img.Root(), manifest.InToto, stating(slsa, "how"), slsa)
	s.refer(t, "a", img.Root(), manifest.InToto, stating(slsa, "later"), slsa)
	s.refer(t, "a", img.Root(), manifest.InToto, "broken", slsa)
	s.refer(t, "a", img.Root(), dsse, envelope(stating(manifest.PredicateSPDX, "what")), "")
	s.refer(t, "a", img.Root(), manifest.InToto, stating(manifest.PredicateSPDX, "more"), manifest.PredicateSPDX)
	s.refer(t, "a", img.Root(), dsse, "a signature", "")
	s.refer(t, "a", img.Root(), "text/plain", "anything", "")
	var warned []string
	parts, err := img.Parts(t.Context(), func(err error) { warned = append(warned, err.Error()) })
	if err != nil || len(parts) != 1 {
		t.Fatalf("%+v, %v", parts, err)
	}
	p := parts[0]
	if p.Provenance.SLSA != "how" || p.SBOM.SPDX != "what" || fmt.Sprint(p.SBOM.AdditionalSPDXs) != "[more]" {
		t.Errorf("got %+v, %+v", p.Provenance, p.SBOM)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "reading a statement") {
		t.Errorf("warnings %q", warned)
	}
}

// A copy has all that refers to the image, its parts and to each other; what only claims
// to is left out and told of.
func TestPushReferrers(t *testing.T) {
	s, other := newServer(t), newServer(t)
	img := join(t, Options{}, s.push(t, "a:1", "linux/amd64", false), s.push(t, "b:1", "linux/arm64", false))
	if err := newClient().Push(t.Context(), s.host+"/ab:1", img, nil); err != nil {
		t.Fatal(err)
	}
	found, err := Find(t.Context(), newClient(), Place{Ref: s.ref(t, "ab:1")})
	if err != nil {
		t.Fatal(err)
	}
	one := s.refer(t, "ab", found.Root(), "text/plain", "one", "")
	s.refer(t, "ab", one, "text/plain", "two", "")
	var index ocispec.Index
	if err := json.Unmarshal(found.Data(), &index); err != nil {
		t.Fatal(err)
	}
	s.refer(t, "ab", index.Manifests[1], "text/plain", "three", "")
	list, err := found.AllReferrers(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("got %+v, %v", list, err)
	}
	if shown, err := found.Referrers(t.Context()); err != nil || len(shown) != 2 {
		t.Errorf("shown: %+v, %v", shown, err)
	}
	target := other.ref(t, "copy:1")
	if err := newClient().Push(t.Context(), target.String(), found, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := PushReferrers(t.Context(), newClient(), list, target); n != 3 || err != nil {
		t.Errorf("pushed %d, %v", n, err)
	}
	if n, err := PushReferrers(t.Context(), newClient(), list, s.ref(t, "ab:2")); n != 0 || err != nil {
		t.Errorf("pushed %d into the repository that has them, %v", n, err)
	}
	copied, err := Find(t.Context(), newClient(), Place{Ref: target})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := copied.AllReferrers(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("the copy has %+v, %v", list, err)
	}
	// A list may say what its manifests do not.
	stranger := s.refer(t, "ab", ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("other"), Size: 5}, "text/plain", "x", "")
	lie := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageIndex, stranger.MediaType, stranger.Digest, stranger.Size)
	address := "http://" + s.host + "/v2/ab/manifests/" + manifest.FallbackTag(index.Manifests[0].Digest)
	req, err := http.NewRequest(http.MethodPut, address, strings.NewReader(lie))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", ocispec.MediaTypeImageIndex)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	list, err = found.AllReferrers(t.Context())
	if err == nil || !strings.Contains(err.Error(), "does not refer to") || len(list) != 3 {
		t.Errorf("got %+v, %v", list, err)
	}
}
