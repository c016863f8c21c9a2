package attest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

var (
	amd64   = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	subject = ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 5, Platform: &amd64,
	}
	some = Attestation{Type: "https://example.com/t", Predicate: []byte(`{ "a": "<b>" }`)}
)

// The statement names the image as BuildKit does.
func TestStatement(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
	}{
		{nil, "_"},
		{[]string{"docker.io/library/app:1"}, "pkg:docker/app@1?platform=linux%2Famd64"},
		{[]string{"reg.example/a/b:2", "reg.example/a/b:2"}, "pkg:docker/reg.example/a/b@2?platform=linux%2Famd64"},
	} {
		about, err := ImageSubjects(test.names, amd64, subject.Digest)
		if err != nil {
			t.Fatal(err)
		}
		data, err := some.Statement(about, false)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.com/t","subject":[{"name":"` + test.want +
			`","digest":{"sha256":"` + subject.Digest.Encoded() + `"}}],"predicate":{"a":"\u003cb\u003e"}}`
		if string(data) != want {
			t.Errorf("%q:\n got %s\nwant %s", test.names, data, want)
		}
	}
}

// parsed reads a manifest as those who pull it do.
func parsed(t *testing.T, m *Manifest) *manifest.Document {
	t.Helper()
	d, err := manifest.Parse(m.Descriptor, m.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[digest.Digest]int64{}
	for _, b := range m.Blobs {
		if b.Descriptor.Digest != digest.FromBytes(b.Bytes) || b.Size != int64(len(b.Bytes)) {
			t.Errorf("blob %s is not what its descriptor says", b.Descriptor.Digest)
		}
		blobs[b.Descriptor.Digest] = b.Size
	}
	for _, b := range d.Blobs() {
		if size, ok := blobs[b.Digest]; !ok || size != b.Size {
			t.Errorf("the manifest names %s, which is not among its blobs", b.Digest)
		}
	}
	return d
}

func TestManifests(t *testing.T) {
	t.Run("artifact", func(t *testing.T) {
		m, err := NewManifest(subject, []Attestation{some}, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		d := parsed(t, m)
		if d.Subject == nil || d.Subject.Digest != subject.Digest || d.ArtifactType != manifest.AttestationType || d.Config.MediaType != ocispec.MediaTypeEmptyJSON {
			t.Errorf("it is not an artifact about the image: %s", m.Bytes)
		}
		if m.Annotations[manifest.ReferenceDigest] != subject.Digest.String() || m.Platform.OS != "unknown" || !manifest.IsAttestation(m.Descriptor) {
			t.Errorf("its descriptor is %+v", m.Descriptor)
		}
		if len(d.Annotations) > 0 {
			t.Errorf("BuildKit's manifests have no annotations; it has %v", d.Annotations)
		}
	})
	t.Run("image", func(t *testing.T) {
		m, err := NewManifest(subject, []Attestation{some, some}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		d := parsed(t, m)
		if d.Subject != nil || d.ArtifactType != "" {
			t.Errorf("it is an artifact: %s", m.Bytes)
		}
		var config ocispec.Image
		if err := json.Unmarshal(m.Blobs[0].Bytes, &config); err != nil {
			t.Fatal(err)
		}
		if err := d.CheckConfig(config); err != nil {
			t.Error(err)
		}
	})
	t.Run("referrer", func(t *testing.T) {
		m, err := NewReferrer(subject, some, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := parsed(t, m)
		if d.Subject == nil || d.Annotations[manifest.PredicateTypeKey] != some.Type || m.Annotations[manifest.PredicateTypeKey] != some.Type || m.Platform != nil {
			t.Errorf("as a referrer it is %s, described by %+v", m.Bytes, m.Descriptor)
		}
	})
}

func TestWhere(t *testing.T) {
	for _, test := range []struct {
		output          Where
		a               Attestation
		index, referrer bool
	}{
		{"", Attestation{}, true, false},
		{"", Attestation{Default: true}, false, true},
		{"", Attestation{Where: Both}, true, true},
		{AsReferrer, Attestation{}, false, true},
		{InIndex, Attestation{Default: true}, true, false},
		{Both, Attestation{Where: AsReferrer}, true, true},
	} {
		if index, referrer := test.output.Of(test.a); index != test.index || referrer != test.referrer {
			t.Errorf("%q of %+v: %t, %t; want %t, %t", test.output, test.a, index, referrer, test.index, test.referrer)
		}
	}
	if _, err := ParseWhere("nowhere"); err == nil {
		t.Error("nowhere is a place")
	}
}

func TestUnbundle(t *testing.T) {
	sum := digest.FromString("file").Encoded()
	const spdx = `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"name":"x"}}`
	list, err := Unbundle(map[string][]byte{"a.spdx.json": []byte(spdx), "sbom.spdx.json": []byte(spdx), "sbom-x.spdx.json": []byte(spdx)}, "sbom", manifest.PredicateSPDX)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, a := range list {
		files = append(files, a.File)
	}
	if want := []string{"sbom.spdx.json", "a.spdx.json", "sbom-x.spdx.json"}; !slices.Equal(files, want) {
		t.Errorf("got %q, want %q", files, want)
	}
	// Subjects are the scanner's, in the form of the framework's version 1.
	about := `"subject":[{"digest":{"gitCommit":"c0","sha256":"` + sum + `"}},{"name":"n"}],`
	if list, err = Unbundle(map[string][]byte{"f.json": []byte(strings.Replace(spdx, `"predicate":`, about+`"predicate":`, 1))}, "sbom", manifest.PredicateSPDX); err != nil {
		t.Fatal(err)
	}
	data, err := list[0].Statement([]Subject{NewSubject("image", subject.Digest)}, false)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"subject":[{"name":"_","digest":{"gitCommit":"c0","sha256":"` + sum + `"}},{"name":"n","digest":{}}]`; !strings.Contains(string(data), want) {
		t.Errorf("got %s, want %s", data, want)
	}
	for data, want := range map[string]string{
		`{`:         "reading the in-toto statement",
		spdx + `{}`: "something follows",
		`{"a":1}`:   "no predicateType",
		`{"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`: "how the image was built",
		`{"predicateType":"x","predicate":{}}`:                              `"x", and has to be "https://spdx.dev/Document"`,
		`{"predicateType":"https://spdx.dev/Document"}`:                     "no predicate",
		`{"predicateType":"https://spdx.dev/Document","predicate":{},"subject":[{"name":"n","digest":{"sha256":"../../etc/passwd"}}]}`: `subject "n"`,
	} {
		if _, err := Unbundle(map[string][]byte{"f.json": []byte(data)}, "sbom", manifest.PredicateSPDX); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"f.json"`) {
			t.Errorf("%s: %v; want an error with %q", data, err, want)
		}
	}
}

func TestSupplement(t *testing.T) {
	at := time.Unix(1000, 0)
	layer := digest.FromString("layer")
	s := Supplement{Tool: "tool", Created: &at, LayerOf: func(p string) digest.Digest {
		if p == "etc/os-release" {
			return layer
		}
		return ""
	}}
	const doc = `{"creationInfo":{"created":"2024-01-01T00:00:00Z","creators":["Tool: x"]},"big":12345678901234567890,
		"files":[{"fileName":"/etc/os-release"},{"fileName":"etc/os-release","comment":"mine"},{"fileName":"./../etc/os-release","comment":"layerID: old"},{"fileName":"other"}]}`
	got, err := s.Add(Attestation{Type: manifest.PredicateSPDX, File: "sbom.spdx.json", Predicate: []byte(doc)}, "sbom")
	if err != nil {
		t.Fatal(err)
	}
	comment := `layerID: ` + layer.String()
	want := `{"big":12345678901234567890,"creationInfo":{"created":"1970-01-01T00:16:40Z","creators":["Tool: x","Tool: tool"]},"files":[` +
		`{"comment":"` + comment + `","fileName":"/etc/os-release"},{"comment":"mine","fileName":"etc/os-release"},` +
		`{"comment":"` + comment + `","fileName":"./../etc/os-release"},{"fileName":"other"}]}`
	if string(got.Predicate) != want {
		t.Errorf("got  %s\nwant %s", got.Predicate, want)
	}
	// A stage's files are not the image's.
	if got, err = s.Add(Attestation{Type: manifest.PredicateSPDX, File: "sbom-build.spdx.json", Predicate: []byte(doc)}, "sbom"); err != nil || strings.Contains(string(got.Predicate), layer.String()) {
		t.Errorf("of a stage: %s, %v", got.Predicate, err)
	}
	odd := Attestation{Type: manifest.PredicateSPDX, File: "sbom.spdx.json", Predicate: []byte(`["not a document"]`)}
	if got, err = s.Add(odd, "sbom"); err != nil || string(got.Predicate) != string(odd.Predicate) {
		t.Errorf("what is not understood became %s, %v", got.Predicate, err)
	}
}

// What a document of ours is called depends on what it says alone.
func TestRename(t *testing.T) {
	named := func(id, packages string) string {
		const text = `{"documentNamespace":"https://example.com/sbom-%s","packages":[%q]}`
		a := Attestation{Type: manifest.PredicateSPDX, File: "sbom.spdx.json", Predicate: fmt.Appendf(nil, text, id, packages)}
		a, err := Supplement{Rename: true}.Add(a, "sbom")
		if err != nil {
			t.Fatal(err)
		}
		return string(a.Predicate)
	}
	one, two := named("cf685056-1f4c-82ec-8ea9-f41d58082b9e", "x"), named("b32e9e8e-6436-8aca-80bb-1dece61157ee", "x")
	if one != two || !strings.Contains(one, `"https://example.com/sbom-`) {
		t.Errorf("got %s and %s", one, two)
	}
	if other := named("cf685056-1f4c-82ec-8ea9-f41d58082b9e", "y"); strings.Replace(other, `"y"`, `"x"`, 1) == one {
		t.Errorf("another document has the same name: %s", other)
	}
}

// What a list of packages says of where they come from may have a password.
func TestSupplementRedacts(t *testing.T) {
	s := Supplement{Redact: func(text string) string { return strings.ReplaceAll(text, "p&w", "xxxxx") }}
	for _, kind := range []string{manifest.PredicateSPDX, manifest.PredicateCycloneDX} {
		a := Attestation{Type: kind, Predicate: []byte(`{"packages":[{"downloadLocation":"https://u:p\u0026w@host/x","n":1.50}]}`)}
		got, err := s.Add(a, "sbom")
		if want := `{"packages":[{"downloadLocation":"https://u:xxxxx@host/x","n":1.50}]}`; err != nil || string(got.Predicate) != want {
			t.Errorf("%s: got %s, %v; want %s", kind, got.Predicate, err, want)
		}
	}
}

// FuzzUnbundle gives a scanner's files, which are hostile, all the way to a manifest.
func FuzzUnbundle(f *testing.F) {
	f.Add([]byte(`{"_type":"x","predicateType":"https://spdx.dev/Document","subject":[{"name":"a","digest":{"sha256":"00"}}],"predicate":{"files":[{"fileName":"a"}],"creationInfo":{"created":"x","creators":1}}}`))
	f.Add([]byte(`{"predicateType":"https://cyclonedx.org/bom","predicate":{"metadata":{"timestamp":"2024-01-01T00:00:00Z"}}}`))
	f.Add([]byte(`{"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`))
	f.Add([]byte(`{"predicateType":"https://spdx.dev/Document","predicate":null}`))
	at := time.Unix(0, 0)
	s := Supplement{Tool: "t", Created: &at, Rename: true, LayerOf: func(string) digest.Digest { return digest.FromString("l") }}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := map[string][]byte{"sbom.spdx.json": data}
		if _, err := Unbundle(files, "sbom", manifest.PredicateSLSA+"v1"); err == nil {
			t.Fatal("a scanner has told how the image was built")
		}
		list, err := Unbundle(files, "sbom", manifest.PredicateSPDX)
		if err != nil {
			list, err = Unbundle(files, "sbom", manifest.PredicateCycloneDX)
		}
		if err != nil {
			return
		}
		if list[0], err = s.Add(list[0], "sbom"); err != nil {
			t.Fatal(err)
		}
		m, err := NewManifest(subject, list, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := manifest.Parse(m.Descriptor, m.Bytes); err != nil {
			t.Fatal(err)
		}
	})
}
