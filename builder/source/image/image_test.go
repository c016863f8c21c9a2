package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	refname "github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// imageWorld is a registry, and a store that knows it.
type imageWorld struct {
	t      *testing.T
	host   string
	images *Finder
	tags   *image.Images
	store  *store.Store

	mu       sync.Mutex
	requests []string
}

func newImageWorld(t *testing.T, mirrors ...string) *imageWorld {
	t.Helper()
	w := &imageWorld{t: t}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		inner.ServeHTTP(rw, r)
	}))
	t.Cleanup(s.Close)
	w.host = strings.TrimPrefix(s.URL, "http://")
	root := t.TempDir()
	conf := registry.Config{Keychain: authn.NewMultiKeychain(), Mirrors: map[string][]string{}}
	for _, m := range mirrors {
		conf.Mirrors[m] = []string{w.host}
	}
	var err error
	if w.store, err = store.Open(root, store.Options{Fetch: w.fetch()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	w.tags = image.Open(root, w.store)
	w.images = NewFinder(w.store, w.tags, registry.New(conf))
	return w
}

// seen returns the requests since the last call.
func (w *imageWorld) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.requests
	w.requests = nil
	return r
}

// remove removes a tag from the registry.
func (w *imageWorld) remove(path string) {
	w.t.Helper()
	ref, err := refname.ParseReference(w.host + "/" + path)
	if err == nil {
		err = remote.Delete(ref)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *imageWorld) push(path string, what any) digest.Digest {
	w.t.Helper()
	ref, err := refname.ParseReference(w.host + "/" + path)
	if err != nil {
		w.t.Fatal(err)
	}
	var h v1.Hash
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(ref, what)
		if err == nil {
			h, err = what.Digest()
		}
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what)
		if err == nil {
			h, err = what.Digest()
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.seen()
	return digest.Digest(h.String())
}

// platformImage is a random image for a platform.
func platformImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	img, err := random.Image(300, 2)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	p := platforms.MustParse(platform)
	c.OS, c.Architecture, c.Variant, c.Author = p.OS, p.Architecture, p.Variant, platform
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// addPlatform adds img to an index; a platform of "" is not said.
func addPlatform(idx v1.ImageIndex, img mutate.Appendable, platform string) v1.ImageIndex {
	d := v1.Descriptor{}
	if os, arch, ok := strings.Cut(platform, "/"); ok {
		arch, variant, _ := strings.Cut(arch, "/")
		d.Platform = &v1.Platform{OS: os, Architecture: arch, Variant: variant}
	}
	return mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: d})
}

// ofSize is an index whose descriptor of img has another size than img.
func ofSize(img v1.Image, size int64) v1.ImageIndex {
	return mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: img, Descriptor: v1.Descriptor{Size: size, Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}},
	})
}

func author(t *testing.T, config []byte) string {
	t.Helper()
	var c ocispec.Image
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	return c.Author
}

func wantImageError(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got the error %v, want %q in it", err, text)
		return
	}
	var h interface{ HintText() string }
	if hint != "" && (!errors.As(err, &h) || !strings.Contains(h.HintText(), hint)) {
		t.Errorf("the error %v has the hint %v, want %q in it", err, h, hint)
	}
}

func TestImageIsRemembered(t *testing.T) {
	w := newImageWorld(t)
	first := w.push("app:1", platformImage(t, "linux/amd64"))
	ref := w.host + "/app:1"
	amd := platforms.MustParse("linux/amd64")
	meta, err := w.images.Resolve(t.Context(), ref, &amd, false)
	if err != nil || meta.Digest != first || author(t, meta.Config) != "linux/amd64" || meta.Ref != ref {
		t.Fatalf("got %+v, %v", meta, err)
	}
	w.seen()
	if again, err := w.images.Resolve(t.Context(), ref, &amd, false); err != nil || !bytes.Equal(again.Config, meta.Config) {
		t.Errorf("again: %+v, %v", again, err)
	}
	pinned := ref + "@" + first.String()
	if _, err := w.images.Resolve(t.Context(), pinned, &amd, true); err != nil {
		t.Errorf("by digest: %v", err)
	}
	chain, err := w.images.Chain(t.Context(), parser.Image{Ref: pinned}, amd)
	if err != nil || len(chain) != 2 {
		t.Fatalf("chain %v, %v", chain, err)
	}
	if r := w.seen(); len(r) != 0 {
		t.Errorf("the network was used: %v", r)
	}

	if _, err := w.images.Resolve(t.Context(), ref, &amd, true); err != nil {
		t.Error(err)
	}
	if r := w.seen(); len(r) != 1 || !strings.HasPrefix(r[0], "HEAD") {
		t.Errorf("pull of what has not changed: %v", r)
	}
	second := w.push("app:1", platformImage(t, "linux/amd64"))
	if meta, err = w.images.Resolve(t.Context(), ref, &amd, false); err != nil || meta.Digest != first {
		t.Errorf("without pull: %v, %v", meta.Digest, err)
	}
	if meta, err = w.images.Resolve(t.Context(), ref, &amd, true); err != nil || meta.Digest != second {
		t.Errorf("with pull: %v, %v", meta.Digest, err)
	}
	list, err := w.tags.List()
	if err != nil || len(list) != 1 || !list[0].Pulled || list[0].Desc.Digest != second || list[0].Ref != ref {
		t.Errorf("listed: %+v, %v", list, err)
	}
}

func TestChainIsFetchedWhenRead(t *testing.T) {
	w := newImageWorld(t)
	img := platformImage(t, "linux/amd64")
	w.push("team/app:1", img)
	amd := platforms.MustParse("linux/amd64")
	chain, err := w.images.Chain(t.Context(), parser.Image{Ref: w.host + "/team/app:1"}, amd)
	if err != nil {
		t.Fatal(err)
	}
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range chain {
		want, err := all[i].DiffID()
		if err != nil {
			t.Fatal(err)
		}
		if l.DiffID.String() != want.String() || l.ID != layers.BaseID(l.Descriptor, l.DiffID) || len(l.Origins) != 1 || l.Origins[0] != w.host+"/team/app" {
			t.Errorf("layer %d is %+v", i, l)
		}
		if w.store.Blobs.Has(l.Descriptor) {
			t.Errorf("layer %d was fetched before it was needed", i)
		}
	}
	files, err := source.OpenChain(t.Context(), w.store, chain)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := files.ReadDir("")
	if err != nil || len(entries) != 2 {
		t.Errorf("files %v, %v", entries, err)
	}
	limited, err := w.images.Chain(t.Context(), parser.Image{Ref: w.host + "/team/app:1", LayerLimit: 1}, amd)
	if err != nil || len(limited) != 1 || limited[0].ID != chain[0].ID {
		t.Errorf("limited to 1: %v, %v", limited, err)
	}
	_, err = w.images.Chain(t.Context(), parser.Image{Ref: w.host + "/team/app:1", Checksum: digest.FromString("x")}, amd)
	wantImageError(t, err, "not the checksum", "")
}

// fetch is what the store calls; the images are made after the store.
func (w *imageWorld) fetch() func(context.Context, layers.Layer) (io.ReadCloser, error) {
	return func(ctx context.Context, l layers.Layer) (io.ReadCloser, error) { return w.images.Fetch(ctx, l) }
}

func TestImageByMirror(t *testing.T) {
	w := newImageWorld(t, "docker.io")
	d := w.push("library/busybox:latest", platformImage(t, "linux/amd64"))
	meta, err := w.images.Resolve(t.Context(), "busybox", nil, false)
	if err != nil || meta.Digest != d || meta.Ref != "docker.io/library/busybox:latest" {
		t.Fatalf("got %+v, %v", meta, err)
	}
	chain, err := w.images.Chain(t.Context(), parser.Image{Ref: "docker.io/library/busybox:latest@" + d.String()}, platforms.DefaultSpec())
	if err != nil || len(chain) != 2 || chain[0].Origins[0] != "docker.io/library/busybox" {
		t.Fatalf("chain %+v, %v", chain, err)
	}
	r, err := w.store.OpenBlob(t.Context(), chain[1])
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != chain[1].Descriptor.Size {
		t.Errorf("%d bytes, %v", n, err)
	}
	r.Close()
}

func TestPlatformChoice(t *testing.T) {
	w := newImageWorld(t)
	var nested v1.ImageIndex = empty.Index
	nested = addPlatform(nested, platformImage(t, "linux/s390x"), "linux/s390x")
	var idx v1.ImageIndex = empty.Index
	for _, p := range []string{"linux/arm/v6", "linux/arm/v7", "linux/amd64", "linux/amd64/v3", "windows/amd64"} {
		idx = addPlatform(idx, platformImage(t, p), p)
	}
	idx = addPlatform(idx, platformImage(t, "linux/riscv64"), "")
	idx = addPlatform(idx, platformImage(t, "linux/386"), "unknown/unknown")
	idx = addPlatform(idx, nested, "")
	w.push("multi:1", idx)
	for platform, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/amd64/v2": "linux/amd64", "linux/amd64/v3": "linux/amd64/v3", "linux/arm/v7": "linux/arm/v7",
		"linux/arm/v6": "linux/arm/v6", "linux/arm/v8": "linux/arm/v7", "linux/arm64": "linux/arm/v7", "linux/arm": "linux/arm/v7",
		"linux/riscv64": "linux/riscv64", "linux/s390x": "linux/s390x",
	} {
		p := platforms.MustParse(platform)
		meta, err := w.images.Resolve(t.Context(), w.host+"/multi:1", &p, false)
		if err != nil || author(t, meta.Config) != want {
			t.Errorf("%s: got %s, %v; want %s", platform, meta.Config, err, want)
		}
	}
	for _, platform := range []string{"linux/ppc64le", "linux/386", "linux/arm/v5"} {
		p := platforms.MustParse(platform)
		_, err := w.images.Resolve(t.Context(), w.host+"/multi:1", &p, false)
		wantImageError(t, err, "it has no image for "+platform, "--platform=")
		wantImageError(t, err, "linux/amd64, linux/amd64/v3, linux/arm/v6, linux/arm/v7, linux/riscv64, linux/s390x, windows/amd64", "")
	}
	// An image that is no index is taken for what it is; the parser warns.
	w.push("single:1", platformImage(t, "linux/arm64"))
	p := platforms.MustParse("linux/amd64")
	if meta, err := w.images.Resolve(t.Context(), w.host+"/single:1", &p, false); err != nil || author(t, meta.Config) != "linux/arm64" {
		t.Errorf("got %s, %v", meta.Config, err)
	}
}

func TestImagesThatAreNone(t *testing.T) {
	w := newImageWorld(t)
	good := platformImage(t, "linux/amd64")
	withLayer := func(mediaType types.MediaType) v1.Image {
		img, err := mutate.AppendLayers(good, static.NewLayer([]byte("layer"), mediaType))
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	c, err := good.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1]
	short, err := mutate.ConfigFile(good, c)
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		img        any
		text, hint string
	}{
		{withLayer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "layer 3: it is encrypted", "not encrypted"},
		{withLayer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "layer 3: it is kept elsewhere", "choose another"},
		{withLayer("text/plain"), `layer 3: it is of the type "text/plain"`, "choose another"},
		{short, "names 1 layers where the manifest has 2", "choose another"},
		{mutate.ConfigMediaType(good, "application/vnd.cncf.helm.config.v1+json"), "not an image but an artifact of the type application/vnd.cncf.helm.config.v1+json", "another tag"},
		{ofSize(good, 77), "bytes, not the 77 of its descriptor", "choose another"},
		{addPlatform(empty.Index, good, "unknown/unknown"), "nor for any other platform", "choose another"},
	} {
		w.push(fmt.Sprintf("bad:%d", i), tt.img)
		_, err := w.images.Resolve(t.Context(), fmt.Sprintf("%s/bad:%d", w.host, i), nil, false)
		wantImageError(t, err, tt.text, tt.hint)
		wantImageError(t, err, fmt.Sprintf("%s/bad:%d", w.host, i), tt.hint)
	}
	if kept, err := w.tags.List(); err != nil || len(kept) != 0 {
		t.Errorf("the store has %v, %v", kept, err)
	}
	_, err = w.images.Resolve(t.Context(), w.host+"/bad:none", nil, false)
	wantImageError(t, err, "not found", "check the name")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

// An image that was built here has no origin, though its name has a host.
func TestLocalImage(t *testing.T) {
	w := newImageWorld(t)
	img := platformImage(t, "linux/amd64")
	keep := func(data []byte, err error, mediaType types.MediaType) ocispec.Descriptor {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		desc, err := w.store.Blobs.Add(t.Context(), data, string(mediaType))
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	config, err := img.RawConfigFile()
	keep(config, err, types.OCIConfigJSON)
	raw, err := img.RawManifest()
	desc := keep(raw, err, types.DockerManifestSchema2)
	if err := w.tags.Put(t.Context(), "docker.io/library/mine:latest", desc); err != nil {
		t.Fatal(err)
	}
	meta, err := w.images.Resolve(t.Context(), "mine", nil, false)
	if err != nil || meta.Digest != desc.Digest {
		t.Fatalf("got %+v, %v", meta, err)
	}
	op := parser.Image{Ref: "docker.io/library/mine:latest@" + desc.Digest.String()}
	// What is built on an image that is not whole could be neither saved nor pushed.
	_, err = w.images.Chain(t.Context(), op, platforms.DefaultSpec())
	wantImageError(t, err, "is missing, and where it came from is not known", "build or pull the image again")
	blobs, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range blobs {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		keep(data, err, types.DockerLayer)
	}
	chain, err := w.images.Chain(t.Context(), op, platforms.DefaultSpec())
	if err != nil || len(chain) != 2 || len(chain[0].Origins) != 0 {
		t.Errorf("chain %+v, %v", chain, err)
	}
	if r := w.seen(); len(r) != 0 {
		t.Errorf("the network was used: %v", r)
	}
}

func TestLayout(t *testing.T) {
	w := newImageWorld(t)
	dir := filepath.Join(t.TempDir(), "layout")
	img := platformImage(t, "linux/amd64")
	l, err := ocilayout.Write(dir, addPlatform(empty.Index, img, "linux/amd64"))
	if err != nil {
		t.Fatal(err)
	}
	w.images.AddLayout("ctx", dir)
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	amd := platforms.MustParse("linux/amd64")
	check := func(ref string) {
		t.Helper()
		meta, err := w.images.ResolveLayout(t.Context(), "ctx", ref, &amd)
		if err != nil || meta.Digest.String() != h.String() || author(t, meta.Config) != "linux/amd64" {
			t.Errorf("%s: %+v, %v", ref, meta, err)
		}
	}
	check("ctx@" + h.String())
	check("ctx:latest")
	chain, err := w.images.Chain(t.Context(), parser.OCILayout{StoreID: "ctx", Ref: "ctx@" + h.String()}, amd)
	if err != nil || len(chain) != 2 {
		t.Fatalf("chain %v, %v", chain, err)
	}
	if files, err := source.OpenChain(t.Context(), w.store, chain); err != nil {
		t.Error(err)
	} else if entries, err := files.ReadDir(""); err != nil || len(entries) != 2 {
		t.Errorf("files %v, %v", entries, err)
	}

	if err := l.AppendImage(platformImage(t, "linux/arm64"), ocilayout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "v2"})); err != nil {
		t.Fatal(err)
	}
	meta, err := w.images.ResolveLayout(t.Context(), "ctx", "ctx:v2", &amd)
	if err != nil || author(t, meta.Config) != "linux/arm64" {
		t.Errorf("v2: %+v, %v", meta, err)
	}
	_, err = w.images.ResolveLayout(t.Context(), "ctx", "ctx:latest", &amd)
	wantImageError(t, err, `has no image "latest"`, "it has v2")
	_, err = w.images.ResolveLayout(t.Context(), "none", "none:latest", &amd)
	wantImageError(t, err, `OCI layout "none" not found`, "")
	_, err = w.images.ResolveLayout(t.Context(), "ctx", "ctx@"+digest.FromString("x").String(), &amd)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a digest that is not there: %v", err)
	}
}

// Whatever a registry sends as manifest and config: an error, or an image that
// holds together.
func FuzzManifest(f *testing.F) {
	config := `{"rootfs":{"type":"layers","diff_ids":[]}}`
	d := digest.FromString(config)
	f.Add([]byte(fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":"%s","size":%d},"layers":[]}`, d, len(config))), []byte(config))
	f.Add([]byte(fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"%s"}]}`, ocispec.MediaTypeImageIndex, d)), []byte(config))
	f.Fuzz(func(t *testing.T, doc, config []byte) {
		kind, err := kindOf(doc, "")
		if err != nil {
			return
		}
		root := ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(doc)}
		amd := platforms.MustParse("linux/amd64")
		reads := 0
		m, err := load(root, &amd, func(desc ocispec.Descriptor) ([]byte, error) {
			if reads++; reads > 10*1024 {
				t.Fatal("too much is read")
			}
			if desc.Digest == root.Digest || manifest.IsManifest(desc.MediaType) {
				return doc, nil
			}
			return config, nil
		})
		if err != nil {
			return
		}
		for _, l := range m.chain(0, nil) {
			if l.ID == "" || l.DiffID.Validate() != nil || l.Descriptor.Digest.Validate() != nil {
				t.Errorf("layer %+v", l)
			}
		}
	})
}
