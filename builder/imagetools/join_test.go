package imagetools

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
)

// server is a registry in this process that counts requests by what they are.
type server struct {
	host string

	mu       sync.Mutex
	requests []string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
		s.mu.Unlock()
		// The library's registry has one set of blobs for all repositories.
		if r.Method == http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/both/blobs/") {
			http.NotFound(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	s.host = strings.TrimPrefix(h.URL, "http://")
	return s
}

func (s *server) count(parts ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, line := range s.requests {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			n++
		}
	}
	return n
}

func (s *server) ref(t *testing.T, path string) registry.Ref {
	t.Helper()
	r, err := registry.ParseRef(s.host + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// push pushes an image for a platform with one layer.
func (s *server) push(t *testing.T, path, platform string, docker bool) registry.Ref {
	t.Helper()
	img, err := random.Image(500, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, RootFS: rootFS(t, img)}); err != nil {
		t.Fatal(err)
	}
	if !docker {
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	r, err := name.ParseReference(s.host + "/" + path)
	if err == nil {
		err = remote.Write(r, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.ref(t, path)
}

func rootFS(t *testing.T, img v1.Image) v1.RootFS {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c.RootFS
}

func newClient() *registry.Client {
	return registry.New(registry.Config{Keychain: authn.NewMultiKeychain()})
}

func join(t *testing.T, o Options, refs ...registry.Ref) *Image {
	t.Helper()
	var sources []Source
	for _, r := range refs {
		sources = append(sources, Source{Place: Place{Ref: r}})
	}
	img, err := Join(t.Context(), newClient(), sources, o)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func indexOf(t *testing.T, img *Image) ocispec.Index {
	t.Helper()
	var index ocispec.Index
	if err := json.Unmarshal(img.Data(), &index); err != nil {
		t.Fatal(err)
	}
	if index.MediaType != img.Root().MediaType || digest.FromBytes(img.Data()) != img.Root().Digest || int64(len(img.Data())) != img.Root().Size {
		t.Errorf("the root %+v does not describe %s", img.Root(), img.Data())
	}
	return index
}

func platformsOf(index ocispec.Index) string {
	var list []string
	for _, d := range index.Manifests {
		p := d.Platform
		list = append(list, strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
	}
	return strings.Join(list, " ")
}

func TestJoinFromSeveralRegistries(t *testing.T) {
	here, there := newServer(t), newServer(t)
	img := join(t, Options{}, here.push(t, "amd:1", "linux/amd64", false), there.push(t, "arm:1", "linux/arm/v7", false))
	if got := platformsOf(indexOf(t, img)); got != "linux/amd64 linux/arm/v7" {
		t.Errorf("it is for %s", got)
	}
	// Of the target's own registry blobs are mounted, those of the other
	// are copied.
	if err := newClient().Push(t.Context(), here.host+"/both:1", img, nil); err != nil {
		t.Fatal(err)
	}
	if n := here.count("POST", "/both/", "mount=", "from=amd"); n != 2 {
		t.Errorf("%d blobs were mounted, not layer and config", n)
	}
	if n := there.count("GET", "/arm/blobs/"); n != 3 {
		t.Errorf("%d blobs were read, not layer and config and, for its platform, the config", n)
	}
	r, err := name.ParseReference(here.host + "/both:1")
	if err != nil {
		t.Fatal(err)
	}
	idx, err := remote.Index(r)
	if err == nil {
		err = validate.Index(idx)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestJoinTypes(t *testing.T) {
	s := newServer(t)
	oci, docker := s.push(t, "oci:1", "linux/amd64", false), s.push(t, "docker:1", "linux/arm64", true)
	note := annotation.List{{Level: "index", Key: "a", Value: "b"}}
	for _, c := range []struct {
		name string
		refs []registry.Ref
		opts Options
		want string
	}{
		{"both", []registry.Ref{oci, docker}, Options{}, ocispec.MediaTypeImageIndex},
		{"docker's alone", []registry.Ref{docker}, Options{}, manifest.DockerIndex},
		{"docker's with an annotation", []registry.Ref{docker}, Options{Annotations: note}, ocispec.MediaTypeImageIndex},
		{"a copy", []registry.Ref{docker}, Options{KeepManifest: true}, manifest.DockerManifest},
		{"no copy of two", []registry.Ref{docker, oci}, Options{KeepManifest: true}, ocispec.MediaTypeImageIndex},
		{"twice the same", []registry.Ref{oci, oci}, Options{}, ocispec.MediaTypeImageIndex},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := join(t, c.opts, c.refs...)
			if got := img.Root().MediaType; got != c.want {
				t.Errorf("it is %s, not %s", got, c.want)
			}
			if index := indexOf(t, img); len(index.Manifests) > len(c.refs) || index.Annotations["a"] != map[bool]string{true: "b"}[c.opts.Annotations != nil] {
				t.Errorf("got %s", img.Data())
			}
		})
	}
	if n := len(indexOf(t, join(t, Options{}, oci, oci)).Manifests); n != 1 {
		t.Errorf("one image twice gives %d manifests", n)
	}
}

func TestJoinIndexes(t *testing.T) {
	s := newServer(t)
	a, b, c := s.push(t, "a:1", "linux/amd64", false), s.push(t, "b:1", "linux/arm64", false), s.push(t, "c:1", "linux/riscv64", false)
	two := join(t, Options{Annotations: annotation.List{{Level: "index", Key: "old", Value: "1"}}}, a, b)
	client := newClient()
	if err := client.Push(t.Context(), s.host+"/two:1", two, nil); err != nil {
		t.Fatal(err)
	}
	ref := s.ref(t, "two:1")
	if img := join(t, Options{}, ref); img.Root().Digest != two.Root().Digest {
		t.Errorf("the copy is %s", img.Data())
	}
	three := indexOf(t, join(t, Options{}, ref, c))
	if got := platformsOf(three); got != "linux/amd64 linux/arm64 linux/riscv64" {
		t.Errorf("joined they are for %s", got)
	}
	noted := join(t, Options{Annotations: annotation.List{{Level: "index", Key: "new", Value: "2"}}}, ref)
	if got := indexOf(t, noted).Annotations; got["old"] != "1" || got["new"] != "2" {
		t.Errorf("annotated it has %v", got)
	}
	part := join(t, Options{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}}, ref)
	if got := platformsOf(indexOf(t, part)); got != "linux/arm64" {
		t.Errorf("the part is for %s", got)
	}
	whole := join(t, Options{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"}}}, ref)
	if whole.Root().Digest != two.Root().Digest {
		t.Errorf("nothing was left out, but it is %s", whole.Data())
	}
}

func TestJoinDescriptors(t *testing.T) {
	s := newServer(t)
	ref := s.push(t, "a:1", "linux/amd64", false)
	desc, _, err := newClient().Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	ref.Digest = desc.Digest
	given := ocispec.Descriptor{Digest: desc.Digest, Platform: &ocispec.Platform{OSVersion: "10"}, Annotations: map[string]string{"a": "b"}}
	img, err := Join(t.Context(), newClient(), []Source{{Place{Ref: ref}, given}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := indexOf(t, img).Manifests[0]
	if d.Platform.OS != "linux" || d.Platform.Architecture != "amd64" || d.Platform.OSVersion != "10" || d.Annotations["a"] != "b" {
		t.Errorf("got %+v", d)
	}
	if given.Platform.OS != "" {
		t.Error("the descriptor that was given has changed")
	}
	given.Size = desc.Size + 1
	if img, err := Join(t.Context(), newClient(), []Source{{Place{Ref: ref}, given}}, Options{}); err == nil {
		t.Errorf("of a wrong size: %+v", img.Root())
	}
}

func TestJoinRefuses(t *testing.T) {
	s := newServer(t)
	ref := s.push(t, "a:1", "linux/amd64", false)
	for want, o := range map[string]Options{
		"cannot be annotated": {Annotations: annotation.List{{Level: "manifest", Key: "a"}}},
		"no index descriptor": {Annotations: annotation.List{{Level: "index-descriptor", Key: "a"}}},
		"does not have":       {Annotations: annotation.List{{Level: "manifest-descriptor", Platform: &ocispec.Platform{OS: "linux", Architecture: "arm"}, Key: "a"}}},
		"none of the wanted":  {Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}},
		"which is not wanted": {KeepManifest: true, Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}},
	} {
		if img, err := Join(t.Context(), newClient(), []Source{{Place: Place{Ref: ref}}}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want an error with %q", img, err, want)
		}
	}
	if _, err := Join(t.Context(), newClient(), nil, Options{}); err == nil {
		t.Error("an image of nothing")
	}
}

func TestFilterKeepsAttestations(t *testing.T) {
	subject := digest.FromString("arm64")
	about := func(d digest.Digest) ocispec.Descriptor {
		return ocispec.Descriptor{
			Digest: digest.FromString("about " + d.String()), Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{manifest.ReferenceType: manifest.Attestation, manifest.ReferenceDigest: d.String()},
		}
	}
	other := digest.FromString("amd64")
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		{Digest: other, Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}},
		{Digest: subject, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}},
		about(other), about(subject), about(digest.FromString("gone")),
	}}
	root, err := encode(index, Place{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Options{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm64", Variant: "v8"}}}.filter(root)
	if err != nil {
		t.Fatal(err)
	}
	var kept ocispec.Index
	if err := json.Unmarshal(got.data, &kept); err != nil {
		t.Fatal(err)
	}
	if len(kept.Manifests) != 2 || kept.Manifests[0].Digest != subject || kept.Manifests[1].Digest != about(subject).Digest {
		t.Errorf("kept %+v", kept.Manifests)
	}
}

func TestParts(t *testing.T) {
	s := newServer(t)
	img := join(t, Options{}, s.push(t, "a:1", "linux/amd64", false), s.push(t, "b:1", "linux/arm/v7", false))
	if err := newClient().Push(t.Context(), s.host+"/ab:1", img, nil); err != nil {
		t.Fatal(err)
	}
	found, err := Find(t.Context(), newClient(), Place{Ref: s.ref(t, "ab:1")})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := found.Parts(t.Context(), func(error) {})
	if err != nil || len(parts) != 2 || parts[1].Config.Variant != "v7" || parts[0].Platform.Architecture != "amd64" {
		t.Errorf("got %+v, %v", parts, err)
	}
}

func FuzzRoot(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `{"manifests":[{"digest":"sha256:1","platform":{"os":"linux","architecture":"arm64"}}]}`,
		`{"manifests":[{"platform":null},{"annotations":{"vnd.docker.reference.type":"attestation-manifest"}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := read{desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data))}, data: data}
		o := Options{
			Annotations: annotation.List{{Level: "index", Key: "a"}, {Level: "manifest-descriptor", Key: "b"}},
			Platforms:   []ocispec.Platform{{OS: "linux", Architecture: "arm64"}},
		}
		root, err := o.root([]read{r, r})
		if err == nil {
			root, err = o.filter(root)
		}
		if err == nil && digest.FromBytes(root.data) != root.desc.Digest {
			t.Errorf("the descriptor of %s says %s", root.data, root.desc.Digest)
		}
		newImage(nil).add(r)
	})
}

// An index with digests that are none is an error, not a crash, and they are in no
// address.
func TestInvalidDigests(t *testing.T) {
	for _, d := range []string{"", "x", "../../other/manifests/1", "md4:31d6cfe0d16ae931b73c59d7e0c089c0"} {
		index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":2}]}`,
			ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, d)
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/a/manifests/1" {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
				_, _ = io.WriteString(w, index)
			} else if r.URL.Path != "/v2/" {
				t.Errorf("asked for %s", r.URL.Path)
			}
		}))
		defer h.Close()
		ref, err := registry.ParseRef(strings.TrimPrefix(h.URL, "http://") + "/a:1")
		if err != nil {
			t.Fatal(err)
		}
		client := registry.New(registry.Config{})
		img, err := Find(t.Context(), client, Place{Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.Parts(t.Context(), func(error) {}); err == nil {
			t.Errorf("digest %q: no error", d)
		}
		if err := client.Push(t.Context(), ref.Host+"/b:1", img, nil); err == nil {
			t.Errorf("digest %q: no error from the push", d)
		}
	}
}

// TestImageInParallel: an image is pushed by several goroutines at once, and whoever
// shows it reads it meanwhile; the race detector looks on.
func TestImageInParallel(t *testing.T) {
	root := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("root")}
	img := newImage(nil)
	img.root = root
	img.add(read{desc: root, data: []byte("{}")})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i))}
			img.add(read{desc: desc, data: []byte(`{"config":{"digest":"` + root.Digest.String() + `"}}`)})
			if _, err := img.Blob(t.Context(), desc); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if string(img.Data()) != "{}" || len(img.Origins(digest.FromString("other"))) > 0 || img.Root().Digest != root.Digest {
				t.Error("another image")
			}
		})
	}
	wg.Wait()
}

// A manifest without a config yields an error, in an index too.
func TestPartsWithoutConfig(t *testing.T) {
	img := newImage(newClient())
	put := func(mediaType, doc string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(doc), Size: int64(len(doc))}
		img.docs[d.Digest] = []byte(doc)
		return d
	}
	m := put(ocispec.MediaTypeImageManifest, `{"layers":[]}`)
	index := put(ocispec.MediaTypeImageIndex, `{"manifests":[{"mediaType":"`+m.MediaType+`","digest":"`+m.Digest.String()+`"}]}`)
	for _, root := range []ocispec.Descriptor{m, index} {
		img.root = root
		if parts, err := img.Parts(t.Context(), func(error) {}); err == nil || !strings.Contains(err.Error(), "has no config") {
			t.Errorf("%s: got %v, %v", root.MediaType, parts, err)
		}
	}
}
