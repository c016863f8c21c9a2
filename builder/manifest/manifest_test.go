package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobs are documents by digest.
type blobs map[digest.Digest][]byte

func (b blobs) read(d ocispec.Descriptor) ([]byte, error) {
	data, ok := b[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return Read(bytes.NewReader(data), d)
}

func (b blobs) put(t testing.TB, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	b[d.Digest] = data
	return d
}

func (b blobs) image(t testing.TB, name string) ocispec.Descriptor {
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString(name), Size: 1}
	return b.put(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config})
}

func (b blobs) index(t testing.TB, entries ...ocispec.Descriptor) ocispec.Descriptor {
	return b.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: entries})
}

func (b blobs) walk(root ocispec.Descriptor) (visited []digest.Digest, err error) {
	err = Walker{Read: b.read, Visit: func(d *Document) error {
		visited = append(visited, d.Desc.Digest)
		return nil
	}}.Walk(root)
	return visited, err
}

func TestWalkVisitsTheRootLast(t *testing.T) {
	b := blobs{}
	one, two := b.image(t, "1"), b.image(t, "2")
	inner := b.index(t, two)
	root := b.index(t, one, inner, one, inner)
	got, err := b.walk(root)
	want := []digest.Digest{one.Digest, two.Digest, inner.Digest, one.Digest, root.Digest}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("visited %v, %v; want %v", got, err, want)
	}
}

func TestWalkReadsOnlyWhatIsWanted(t *testing.T) {
	b := blobs{}
	absent := ocispec.Descriptor{Digest: digest.FromString("absent"), Size: 6}
	root := b.index(t, absent, b.image(t, "1"))
	n := 0
	err := Walker{
		Read:  b.read,
		Want:  func(d ocispec.Descriptor) (bool, error) { return d.Digest != absent.Digest, nil },
		Visit: func(*Document) error { n++; return nil },
	}.Walk(root)
	if err != nil || n != 2 {
		t.Errorf("visited %d documents, %v", n, err)
	}
	if _, err := b.walk(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without Want: %v", err)
	}
}

func TestWalkNesting(t *testing.T) {
	for nested := 1; nested <= MaxNesting+2; nested++ {
		for _, leaf := range []bool{true, false} {
			b := blobs{}
			root := b.index(t)
			if leaf {
				root = b.index(t, b.image(t, "1"))
			}
			for range nested - 1 {
				root = b.index(t, root)
			}
			_, err := b.walk(root)
			if (err == nil) != (nested <= MaxNesting) {
				t.Errorf("%d indexes, an image in the last: %v: %v", nested, leaf, err)
			}
		}
	}
}

// An index of indexes that each list the same many manifests.
func TestWalkCountsTheEntriesOfAllIndexes(t *testing.T) {
	b := blobs{}
	many := slices.Repeat([]ocispec.Descriptor{b.image(t, "1")}, MaxEntries/2)
	half := b.index(t, many...)
	other := b.index(t, append(many, b.image(t, "2"))...)
	if _, err := b.walk(b.index(t, half)); err != nil {
		t.Error(err)
	}
	if _, err := b.walk(b.index(t, half, other)); err == nil || !strings.Contains(err.Error(), "manifests") {
		t.Errorf("got %v", err)
	}
}

func TestParseHostile(t *testing.T) {
	const good = `"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
	entry := `{"mediaType":"` + ocispec.MediaTypeImageConfig + `",` + good + `,"size":%d}`
	const image, index = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	for _, c := range []struct{ name, mediaType, data, want string }{
		{"not JSON", image, "<html>", "invalid character"},
		{"a list", image, "[]", "cannot unmarshal"},
		{"index with a config", index, `{"manifests":[],"config":{` + good + `}}`, "as well"},
		{"index with layers", index, `{"manifests":[],"layers":[{` + good + `}]}`, "as well"},
		{"index that is a manifest", index, `{"config":{` + good + `},"layers":[]}`, "as well"},
		{"image that is an index", image, `{"manifests":[]}`, "it is an index"},
		{"Docker's image that is an index", DockerManifest, `{"manifests":[{` + good + `}]}`, "it is an index"},
		{"both, of unknown type", "", `{"manifests":[],"config":{` + good + `}}`, "as well"},
		{"digest that is a path", index, `{"manifests":[{"digest":"sha256:../../etc/passwd"}]}`, "invalid checksum digest"},
		{"no digest", index, `{"manifests":[{}]}`, "invalid checksum digest"},
		{"layer without a digest", image, `{"config":{` + good + `},"layers":[{}]}`, "invalid checksum digest"},
		{"negative size", image, `{"config":{` + good + `,"size":-1}}`, "negative size"},
		{"negative size of an entry", index, `{"manifests":[{` + good + `,"size":-1}]}`, "negative size"},
		{"size that overflows", image, `{"config":{` + good + `,"size":99999999999999999999}}`, "cannot unmarshal"},
		{"config that is too large", image, `{"config":` + fmt.Sprintf(entry, MaxBytes+1) + `}`, "must not have more"},
		{"config of the most bytes", image, `{"config":` + fmt.Sprintf(entry, MaxBytes) + `}`, ""},
		{"artifact without a config", "application/x", `{}`, ""},
		{"subject", image, `{"subject":{` + good + `}}`, ""},
		{"subject of an index", index, `{"manifests":[],"subject":{` + good + `}}`, ""},
		{"subject without a digest", image, `{"subject":{}}`, "subject"},
		{"subject that is a path", index, `{"subject":{"digest":"sha256:../x"}}`, "subject"},
		{"subject that is too large", image, `{"subject":` + fmt.Sprintf(entry, MaxBytes+1) + `}`, "must not have more"},
		{"null", image, `null`, ""},
		{"empty index", index, `{}`, ""},
		{"too many layers", image, `{"layers":[` + strings.Repeat("{"+good+"},", MaxEntries) + "{" + good + "}]}", "must not list more"},
	} {
		_, err := Parse(ocispec.Descriptor{MediaType: c.mediaType}, []byte(c.data))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// A referrer is described with what it is of, and its annotations.
func TestReferrer(t *testing.T) {
	const config = `"config":{"mediaType":"application/x-config","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}`
	for _, c := range []struct{ data, want string }{
		{`{` + config + `}`, "application/x-config"},
		{`{"artifactType":"application/x-type",` + config + `}`, "application/x-type"},
		{`{"artifactType":"` + AttestationType + `","annotations":{"a":"b"}}`, AttestationType},
	} {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(c.data), Size: int64(len(c.data))}
		d, err := Parse(desc, []byte(c.data))
		if err != nil {
			t.Fatal(err)
		}
		got := d.Referrer()
		if got.ArtifactType != c.want || got.Digest != desc.Digest || got.Size != desc.Size || IsAttestation(got) != (c.want == AttestationType) || len(got.Annotations) != len(d.Annotations) {
			t.Errorf("%s: %+v", c.data, got)
		}
	}
}

func TestFallbackTag(t *testing.T) {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d := a.FromString("")
		if tag := FallbackTag(d); tag != a.String()+"-"+d.Encoded()[:64] || len(tag) > 128 {
			t.Errorf("got %q", tag)
		}
	}
}

func TestRead(t *testing.T) {
	data := []byte("{}")
	right := digest.FromBytes(data)
	for _, c := range []struct {
		name string
		desc ocispec.Descriptor
		want string
	}{
		{"right", ocispec.Descriptor{Digest: right, Size: 2}, ""},
		{"size unknown", ocispec.Descriptor{Digest: right}, ""},
		{"sha512", ocispec.Descriptor{Digest: digest.SHA512.FromBytes(data), Size: 2}, ""},
		{"too long", ocispec.Descriptor{Digest: right, Size: 1}, "more than 1 bytes"},
		{"too short", ocispec.Descriptor{Digest: right, Size: 3}, "only 2 bytes"},
		{"damaged", ocispec.Descriptor{Digest: digest.FromString("x"), Size: 2}, "damaged"},
		{"bad digest", ocispec.Descriptor{Digest: "sha256:..", Size: 2}, "invalid checksum digest"},
		{"negative", ocispec.Descriptor{Digest: right, Size: -1}, "negative size"},
		{"too large", ocispec.Descriptor{Digest: right, Size: MaxBytes + 1}, "must not have more"},
		{"a statement that is shorter", ocispec.Descriptor{MediaType: InToto, Digest: right, Size: MaxStatement}, "has only"},
		{"a statement that is too large", ocispec.Descriptor{MediaType: InToto, Digest: right, Size: MaxStatement + 1}, "must not have more"},
	} {
		_, err := Read(bytes.NewReader(data), c.desc)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	most := make([]byte, MaxBytes+1)
	if _, err := Read(bytes.NewReader(most[1:]), ocispec.Descriptor{Digest: digest.FromBytes(most[1:])}); err != nil {
		t.Errorf("the most bytes: %v", err)
	}
	if _, err := Read(bytes.NewReader(most), ocispec.Descriptor{Digest: digest.FromBytes(most)}); err == nil {
		t.Error("one byte more than the most was read")
	}
}

// A lower limit than containerd's would refuse images that others push.
func TestLimitsAreNotBelowContainerds(t *testing.T) {
	const containerd = 4 * 1048 * 1048 // docker.MaxManifestSize
	least, err := json.Marshal(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("")})
	if err != nil {
		t.Fatal(err)
	}
	if MaxBytes < containerd || MaxEntries < containerd/(len(least)+1) {
		t.Errorf("at most %d bytes and %d entries; containerd accepts %d and %d", MaxBytes, MaxEntries, containerd, containerd/(len(least)+1))
	}
}

func TestBest(t *testing.T) {
	p := func(arch, variant string) ocispec.Platform {
		return ocispec.Platform{OS: "linux", Architecture: arch, Variant: variant}
	}
	for _, c := range []struct {
		wanted ocispec.Platform
		list   []ocispec.Platform
		at     int
	}{
		{p("amd64", ""), []ocispec.Platform{p("arm64", ""), p("amd64", "")}, 1},
		{p("amd64", ""), []ocispec.Platform{p("amd64", ""), p("amd64", "")}, 0},
		{p("amd64", ""), []ocispec.Platform{p("386", ""), p("amd64", "")}, 1},
		{p("arm64", ""), []ocispec.Platform{p("arm", "v7"), p("arm64", "")}, 1},
		{p("arm64", ""), []ocispec.Platform{p("arm", "v6"), p("arm", "v7")}, 1},
		{p("arm", "v6"), []ocispec.Platform{p("arm", "v7")}, -1},
		{p("amd64", ""), nil, -1},
	} {
		if at, ok := Best(c.wanted, c.list); ok != (c.at >= 0) || ok && at != c.at {
			t.Errorf("%v of %v: %d, %v; want %d", c.wanted, c.list, at, ok, c.at)
		}
	}
}

// FuzzWalk: whatever the documents are, a walk ends, and what it visits has valid
// digests and keeps the limits.
func FuzzWalk(f *testing.F) {
	b := blobs{}
	one := b.image(f, "1")
	root := b.index(f, one, b.index(f, one))
	f.Add(b[root.Digest], b[one.Digest], ocispec.MediaTypeImageIndex)
	f.Add([]byte(`{"manifests":[{"digest":"sha256:..","size":-1}]}`), []byte(`{}`), "")
	f.Add([]byte(`{"manifests":[],"config":{}}`), []byte(`null`), DockerIndex)
	f.Fuzz(func(t *testing.T, first, other []byte, mediaType string) {
		root := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(first), Size: int64(len(first))}
		visits := 0
		err := Walker{
			Read: func(d ocispec.Descriptor) ([]byte, error) {
				if d.Digest == root.Digest {
					return first, nil
				}
				return other, nil
			},
			Visit: func(d *Document) error {
				visits++
				for _, b := range append(d.Blobs(), d.Manifests...) {
					if b.Digest.Validate() != nil || b.Size < 0 {
						t.Errorf("visited a document with %v", b)
					}
				}
				if d.IsIndex() && d.Config != nil {
					t.Error("visited an index with a config")
				}
				return nil
			},
		}.Walk(root)
		if visits > MaxEntries+1 || err == nil && visits == 0 {
			t.Errorf("%d visits, %v", visits, err)
		}
	})
}

// Referrers are visited once, in the order of what they are about. What is said wrongly
// of one hides nothing of what is said rightly.
func TestWalkReferrers(t *testing.T) {
	d := func(name string) digest.Digest { return digest.FromString(name) }
	said := func(subject, name string) Referrer {
		return Referrer{Subject: d(subject), Desc: ocispec.Descriptor{Digest: d(name), MediaType: name}}
	}
	lists := map[digest.Digest][]Referrer{
		d("root"): {said("root", "a"), said("root", "b"), said("root", "root"), said("root", "part"), said("root", "lie")},
		d("part"): {said("part", "a"), said("part", "lie")},
		d("a"):    {said("a", "c"), said("a", "b")},
		d("c"):    {said("c", "a"), said("c", "root")},
	}
	var visited []string
	walk := func() error {
		visited = nil
		return WalkReferrers([]digest.Digest{d("root"), d("part")}, func(subjects []digest.Digest) (all []Referrer, err error) {
			for _, s := range subjects {
				all = append(all, lists[s]...)
			}
			return all, nil
		}, func(r Referrer) error {
			if r.Desc.MediaType == "lie" && r.Subject == d("root") {
				return errors.New("a lie")
			}
			visited = append(visited, r.Desc.MediaType)
			return nil
		})
	}
	if err := walk(); err == nil || err.Error() != "a lie" || strings.Join(visited, " ") != "a b lie c" {
		t.Errorf("visited %q, %v", visited, err)
	}
	for i := range MaxReferrers {
		lists[d("c")] = append(lists[d("c")], said("c", fmt.Sprint(i)))
	}
	if err := walk(); err == nil || !strings.Contains(err.Error(), "more than") || len(visited) > MaxReferrers {
		t.Errorf("visited %d, %v", len(visited), err)
	}
	// A chain of them has an end.
	lists = map[digest.Digest][]Referrer{}
	for i := range 100 {
		lists[d(fmt.Sprint(i))] = []Referrer{said(fmt.Sprint(i), fmt.Sprint(i+1))}
	}
	lists[d("root")] = []Referrer{said("root", "0")}
	if err := walk(); err != nil || len(visited) != MaxNesting {
		t.Errorf("visited %q, %v", visited, err)
	}
}
