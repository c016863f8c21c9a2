package load

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/layout"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/store"
)

// loadArchive is Archive for tests that have no referrers.
func loadArchive(ctx context.Context, s *store.Store, r io.Reader) ([]Image, error) {
	loaded, err := Archive(ctx, s, r)
	if err != nil {
		return nil, err
	}
	return loaded.Images, nil
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sample is an image of one layer in a store of its own.
func sample(t testing.TB, platforms ...string) *stored.Image {
	t.Helper()
	s := openStore(t)
	var imgs []assemble.Part
	for _, arch := range platforms {
		w, err := s.NewWriter(context.Background(), store.Forms{Blob: true}, archive.Compression{})
		if err != nil {
			t.Fatal(err)
		}
		e := layers.Entry{Path: "file", Mode: 0o644, Size: int64(len(arch))}
		if err := w.Add(e, strings.NewReader(arch)); err != nil {
			t.Fatal(err)
		}
		l, err := w.Commit(time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		imgs = append(imgs, assemble.Part{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, Chain: layers.Chain{l}})
	}
	b, err := assemble.Image(context.Background(), s, imgs, assemble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func written(t testing.TB, docker bool, list ...layout.Named) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := layout.WriteArchive(context.Background(), &buf, list, docker); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const app1, app2 = "docker.io/library/app:1", "docker.io/library/app:2"

// readAll reads every blob of a loaded image, which verifies it.
func readAll(t *testing.T, s *store.Store, img Image) {
	t.Helper()
	b, err := stored.Open(context.Background(), s, img.Desc)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range b.Blobs() {
		r, err := b.Open(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := digest.FromReader(r); err != nil {
			t.Errorf("blob %s: %v", d.Digest, err)
		}
		r.Close()
	}
}

func TestOwnArchivesComeBack(t *testing.T) {
	one, two := sample(t, "amd64"), sample(t, "amd64", "arm64")
	gz := func(data []byte) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	for _, c := range []struct {
		name   string
		data   []byte
		digest digest.Digest
		names  string
	}{
		{"docker", written(t, true, layout.Named{Image: one, Names: []string{app1, app2}}), one.Digest(), app1 + " " + app2},
		{"oci", written(t, false, layout.Named{Image: one, Names: []string{app1}}), one.Digest(), app1},
		{"without a name", written(t, false, layout.Named{Image: one}), one.Digest(), ""},
		{"two platforms", written(t, false, layout.Named{Image: two, Names: []string{app1}}), two.Digest(), app1},
		{"compressed", gz(written(t, true, layout.Named{Image: one, Names: []string{app1}})), one.Digest(), app1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t)
			images, err := loadArchive(context.Background(), s, bytes.NewReader(c.data))
			if err != nil {
				t.Fatal(err)
			}
			if len(images) != 1 || images[0].Desc.Digest != c.digest || strings.Join(images[0].Names, " ") != c.names {
				t.Fatalf("loaded %+v", images)
			}
			readAll(t, s, images[0])
		})
	}
}

func TestSeveralImages(t *testing.T) {
	data := written(t, true,
		layout.Named{Image: sample(t, "amd64"), Names: []string{app1}}, layout.Named{Image: sample(t, "arm64"), Names: []string{app2}})
	images, err := loadArchive(context.Background(), openStore(t), bytes.NewReader(data))
	if err != nil || len(images) != 2 {
		t.Fatalf("%+v, %v", images, err)
	}
}

// TestDockerFormat loads what go-containerregistry writes: docker's older format,
// with compressed layers.
func TestDockerFormat(t *testing.T) {
	base, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	tag, err := name.NewTag("app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.Write(tag, base, &buf); err != nil {
		t.Fatal(err)
	}
	s := openStore(t)
	images, err := loadArchive(context.Background(), s, &buf)
	if err != nil {
		t.Fatal(err)
	}
	want, err := base.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	b, err := stored.Open(context.Background(), s, images[0].Desc)
	if err != nil || b.Manifests[0].Config.Digest.String() != want.String() || len(images[0].Names) != 1 {
		t.Fatalf("%+v, %v", images, err)
	}
	readAll(t, s, images[0])
}

// member is one entry of an archive that a test makes.
type member struct {
	name, data string
	link       string
}

func archiveOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Mode: 0o644, Size: int64(len(m.data))}
		if m.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// legacy is an archive as docker before 25 wrote it: plain layers, one of them
// a link to the other.
func legacy(t testing.TB, diffID digest.Digest, tar string) []byte {
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID, diffID}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return archiveOf(t,
		member{name: "aa/layer.tar", data: tar}, member{name: "bb/layer.tar", link: "../aa/layer.tar"},
		member{name: "cc.json", data: string(config)}, member{name: "repositories", data: "{}"},
		member{name: "manifest.json", data: `[{"Config":"cc.json","RepoTags":["app:1"],"Layers":["aa/layer.tar","bb/layer.tar"]}]`})
}

func TestLegacyDockerFormat(t *testing.T) {
	layer := string(archiveOf(t, member{name: "file", data: "x"}))
	s := openStore(t)
	images, err := loadArchive(context.Background(), s, bytes.NewReader(legacy(t, digest.FromString(layer), layer)))
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, s, images[0])
	if images[0].Names[0] != app1 {
		t.Errorf("names %v", images[0].Names)
	}
	_, err = Archive(context.Background(), openStore(t), bytes.NewReader(legacy(t, digest.FromString("other"), layer)))
	if err == nil || !strings.Contains(err.Error(), "the config says") {
		t.Errorf("a layer that is another: %v", err)
	}
}

func TestLayout(t *testing.T) {
	b, dir := sample(t, "amd64", "arm64"), t.TempDir()
	if err := layout.WriteDir(context.Background(), []layout.Named{{Image: b, Names: []string{app1}}}, dir, func(string) {}); err != nil {
		t.Fatal(err)
	}
	// A layout need not have all platforms of an index.
	if err := os.Remove(filepath.Join(dir, "blobs/sha256", b.Manifests[1].Desc.Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	s := openStore(t)
	loaded, err := Layout(context.Background(), s, dir)
	if err != nil || len(loaded.Images) != 1 {
		t.Fatalf("%+v, %v", loaded, err)
	}
	readAll(t, s, loaded.Images[0])
	layer := b.Manifests[0].Layers[0].Descriptor.Digest.Encoded()
	if err := os.WriteFile(filepath.Join(dir, "blobs/sha256", layer), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Layout(context.Background(), openStore(t), dir); !errors.Is(err, folder.ErrCorrupt) {
		t.Errorf("a damaged layer: %v", err)
	}
	if _, err := Layout(context.Background(), openStore(t), t.TempDir()); err == nil || !strings.Contains(err.Error(), "not an OCI layout") {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestArchiveRefuses(t *testing.T) {
	whole := written(t, false, layout.Named{Image: sample(t, "amd64")})
	lostBlob := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest.FromString("x").String() + `","size":1}]}`
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "empty"},
		{"text", []byte("hello"), "not a tar"},
		{"a tar of files", archiveOf(t, member{name: "a", data: "b"}), "not an image archive"},
		{"an empty tar", make([]byte, 1024), "empty"},
		{"a cut archive", whole[:2000], "too early"},
		{"a blob that is another", archiveOf(t, member{name: "blobs/sha256/" + digest.FromString("a").Encoded(), data: "b"}), "does not match"},
		{"an index that is no JSON", archiveOf(t, member{name: "index.json", data: "{"}), "index.json"},
		{"an index of nothing", archiveOf(t, member{name: "index.json", data: "{}"}), "no image"},
		{"a digest that is none", archiveOf(t, member{name: "index.json", data: `{"manifests":[{"digest":"../../x"}]}`}), "digest"},
		{"a lost blob", archiveOf(t, member{name: "index.json", data: lostBlob}), "not in the store"},
		{"a manifest.json without images", archiveOf(t, member{name: "manifest.json", data: "[]"}), "no image"},
		{"a lost config", archiveOf(t, member{name: "manifest.json", data: `[{"Config":"../../etc/passwd"}]`}), "config"},
		{"links in a circle", archiveOf(t, member{name: "a", link: "b"}, member{name: "b", link: "a"},
			member{name: "manifest.json", data: `[{"Config":"a"}]`}), "config"},
	} {
		t.Run(c.name, func(t *testing.T) {
			images, err := loadArchive(context.Background(), openStore(t), bytes.NewReader(c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v", images, err)
			}
		})
	}
}

// An archive with huge descriptions of images fills no memory.
func TestArchiveOfHugeFiles(t *testing.T) {
	huge := strings.Repeat(" ", manifest.MaxBytes+1)
	hugeDigest := digest.FromString(huge)
	var many []member
	for i := range maxSmallFiles/manifest.MaxBytes + 1 {
		many = append(many, member{name: fmt.Sprint(i, ".json"), data: huge[1:]})
	}
	for name, members := range map[string][]member{
		"index.json":    {{name: "index.json", data: huge}},
		"manifest.json": {{name: "manifest.json", data: huge}},
		"many":          many,
		"a manifest": {
			{name: "blobs/sha256/" + hugeDigest.Encoded(), data: huge},
			{name: "index.json", data: fmt.Sprintf(`{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d}]}`, hugeDigest, len(huge))},
		},
		"a config": {
			{name: "blobs/sha256/" + hugeDigest.Encoded(), data: huge},
			{name: "manifest.json", data: `[{"Config":"blobs/sha256/` + hugeDigest.Encoded() + `"}]`},
		},
	} {
		images, err := loadArchive(t.Context(), openStore(t), bytes.NewReader(archiveOf(t, members...)))
		if err == nil || !strings.Contains(err.Error(), "too many") && !strings.Contains(err.Error(), "too large") && !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: got %+v, %v", name, images, err)
		}
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(written(f, true, layout.Named{Image: sample(f, "amd64"), Names: []string{app1}}))
	layer := string(archiveOf(f, member{name: "file", data: "x"}))
	f.Add(legacy(f, digest.FromString(layer), layer))
	f.Add([]byte("index.json"))
	s := openStore(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		images, err := loadArchive(context.Background(), s, bytes.NewReader(archivetest.RepairAll(data)))
		if err != nil {
			return
		}
		for _, img := range images {
			readAll(t, s, img)
		}
	})
}

func TestEmptyImageOfOthers(t *testing.T) {
	var buf bytes.Buffer
	tag, err := name.NewTag("empty:1")
	if err != nil {
		t.Fatal(err)
	}
	img := mutate.MediaType(empty.Image, "application/vnd.oci.image.manifest.v1+json")
	if err := tarball.Write(tag, img, &buf); err != nil {
		t.Fatal(err)
	}
	if _, err := Archive(context.Background(), openStore(t), &buf); err != nil {
		t.Error(err)
	}
}

// TestSkippingEnds: skipping a large file of an archive stops when the context ends.
func TestSkippingEnds(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	large := make([]byte, 16<<20)
	if err := tw.WriteHeader(&tar.Header{Name: "elsewhere/large", Mode: 0o644, Size: int64(len(large))}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write(large); err != nil {
		t.Fatal(err)
	}
	// A stream: what can seek skips at once.
	r := struct{ io.Reader }{&b}
	if _, err := Archive(archivetest.EndsAfter(16), openStore(t), r); !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes are left: %v", b.Len(), err)
	}
}
