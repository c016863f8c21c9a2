package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	noon  = time.Date(2024, 1, 2, 12, 0, 0, 0, time.UTC)
)

func openStore(t *testing.T) *store.Store {
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

// file is an entry with its content.
type file struct {
	layers.Entry
	content string
}

func regular(path, content string) file {
	return file{layers.Entry{Path: path, Mode: 0o644, ModTime: noon.UnixNano()}, content}
}

// layer writes a layer of files, which are in order.
func layer(t *testing.T, s *store.Store, created time.Time, files ...file) layers.Layer {
	t.Helper()
	w, err := s.NewWriter(context.Background(), store.Forms{Blob: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, f := range files {
		if f.Kind == layers.File {
			f.Size = int64(len(f.content))
		}
		if err := w.Add(f.Entry, strings.NewReader(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := w.Commit(created)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sample is an image of two layers: files of all kinds, and changes of them.
func sample(t *testing.T, s *store.Store, p ocispec.Platform) Image {
	t.Helper()
	bin := file{layers.Entry{Path: "bin", Kind: layers.Dir, Mode: 0o755, ModTime: noon.UnixNano()}, ""}
	below := layer(t, s, noon,
		bin, regular("bin/sh", "shell of "+p.Architecture),
		file{layers.Entry{Path: "bin/sh2", Kind: layers.Hardlink, Link: "bin/sh"}, ""},
		regular("gone", "x"),
		file{layers.Entry{Path: "link", Kind: layers.Symlink, Target: "bin/sh"}, ""})
	above := layer(t, s, noon.Add(time.Hour),
		file{layers.Entry{Path: "gone", Kind: layers.Whiteout}, ""},
		file{layers.Entry{Path: "secret", Kind: layers.Dir, Mode: 0o1700, ModTime: noon.UnixNano()}, ""},
		file{layers.Entry{Path: "secret/set", Mode: 0o4755, ModTime: noon.UnixNano()}, "setuid"})
	config, err := json.Marshal(ocispec.Image{Platform: p, Config: ocispec.ImageConfig{Cmd: []string{"sh"}},
		History: []ocispec.History{
			{CreatedBy: "ADD rootfs"}, {CreatedBy: "CMD", EmptyLayer: true}, {CreatedBy: "COPY", Comment: "buildkit.dockerfile.v0"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	return Image{Platform: p, Config: config, Chain: layers.Chain{below, above}}
}

func assemble(t *testing.T, s *store.Store, o Options, imgs ...Image) *Built {
	t.Helper()
	b, err := Assemble(context.Background(), s, imgs, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// validateLayout recomputes every digest of the only entry of a layout.
func validateLayout(t *testing.T, dir string) {
	t.Helper()
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) == 0 {
		t.Fatal("the layout is empty")
	}
	for _, d := range m.Manifests {
		if d.MediaType.IsIndex() {
			idx, err := root.ImageIndex(d.Digest)
			if err == nil {
				err = validate.Index(idx)
			}
			if err != nil {
				t.Errorf("index %s: %v", d.Digest, err)
			}
			continue
		}
		img, err := root.Image(d.Digest)
		if err == nil {
			err = validate.Image(img)
		}
		if err != nil {
			t.Errorf("image %s: %v", d.Digest, err)
		}
	}
}

func TestAssemble(t *testing.T) {
	for _, c := range []struct {
		name      string
		platforms []ocispec.Platform
		opts      Options
		mediaType string
	}{
		{"one platform", []ocispec.Platform{amd64}, Options{}, ocispec.MediaTypeImageManifest},
		{"docker types", []ocispec.Platform{amd64}, Options{DockerTypes: true}, manifest.DockerManifest},
		{"two platforms", []ocispec.Platform{amd64, arm64}, Options{}, ocispec.MediaTypeImageIndex},
		{"index of one", []ocispec.Platform{amd64}, Options{Index: true}, ocispec.MediaTypeImageIndex},
		{"docker list", []ocispec.Platform{amd64, arm64}, Options{DockerTypes: true}, manifest.DockerIndex},
		{"zstd", []ocispec.Platform{amd64}, Options{Compression: archive.Compression{Type: archive.Zstd}}, ocispec.MediaTypeImageManifest},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t)
			var imgs []Image
			for _, p := range c.platforms {
				imgs = append(imgs, sample(t, s, p))
			}
			b := assemble(t, s, c.opts, imgs...)
			if b.Desc.MediaType != c.mediaType {
				t.Errorf("media type %s", b.Desc.MediaType)
			}
			if again := assemble(t, s, c.opts, imgs...); again.Digest() != b.Digest() {
				t.Errorf("first %s, then %s", b.Digest(), again.Digest())
			}
			dir := filepath.Join(t.TempDir(), "layout")
			if err := WriteLayout(context.Background(), []Named{{b, []string{"docker.io/library/app:1"}}}, dir, func(string) {}); err != nil {
				t.Fatal(err)
			}
			// validate.Image takes every layer for gzip.
			if c.opts.Compression.Type == "" {
				validateLayout(t, dir)
			}
			stored, err := Stored(context.Background(), s, b.Desc)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := digests(stored), digests(b); !reflect.DeepEqual(got, want) || stored.Size() != b.Size() {
				t.Errorf("read again it is %v, not %v", got, want)
			}
			checkDiffIDs(t, b)
		})
	}
}

func digests(b *Built) (list []digest.Digest) {
	for _, d := range b.Blobs() {
		list = append(list, d.Digest)
	}
	return list
}

// checkDiffIDs uncompresses every layer.
func checkDiffIDs(t *testing.T, b *Built) {
	t.Helper()
	for _, m := range b.Manifests {
		for _, l := range m.Layers {
			blob, err := b.Open(context.Background(), l.Descriptor)
			if err != nil {
				t.Fatal(err)
			}
			plain, _, err := archive.Decompress(blob)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := digest.FromReader(plain); err != nil || d != l.DiffID {
				t.Errorf("layer %s: uncompressed it is %s, not %s (%v)", l.Descriptor.Digest, d, l.DiffID, err)
			}
			plain.Close()
			blob.Close()
		}
	}
}

func readConfig(t *testing.T, s *store.Store, b *Built) (img ocispec.Image) {
	t.Helper()
	data, err := ReadBlob(context.Background(), s, b.Manifests[0].Config)
	if err == nil {
		err = json.Unmarshal(data, &img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestConfigIsFinished(t *testing.T) {
	s := openStore(t)
	img := sample(t, s, amd64)
	got := readConfig(t, s, assemble(t, s, Options{}, img))
	var times []string
	for _, h := range got.History {
		times = append(times, h.Created.Format("15:04"))
	}
	// CMD gets the time of the layer after it, as with the reference.
	if strings.Join(times, " ") != "12:00 13:00 13:00" {
		t.Errorf("history: %v", times)
	}
	if got.Created == nil || !got.Created.Equal(noon.Add(time.Hour)) {
		t.Errorf("created %v", got.Created)
	}
	for i, l := range img.Chain {
		if got.RootFS.DiffIDs[i] != l.DiffID {
			t.Errorf("diff ID %d is %s, not %s", i, got.RootFS.DiffIDs[i], l.DiffID)
		}
	}
	if got.Config.Cmd[0] != "sh" {
		t.Errorf("config: %+v", got.Config)
	}
}

func TestConfigKeepsUnknownFields(t *testing.T) {
	s := openStore(t)
	img := sample(t, s, amd64)
	img.Config = []byte(`{"os":"linux","architecture":"amd64","created":"2020-01-01T00:00:00Z","config":{"OnBuild":["RUN x"]},"x":[1]}`)
	b := assemble(t, s, Options{}, img)
	data, err := ReadBlob(context.Background(), s, b.Manifests[0].Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"OnBuild":["RUN x"]`, `"x":[1]`, `"created":"2020-01-01T00:00:00Z"`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
}

func TestHistory(t *testing.T) {
	at := func(h int) *time.Time { x := noon.Add(time.Duration(h) * time.Hour); return &x }
	chain := func(hours ...int) (c layers.Chain) {
		for _, h := range hours {
			l := layers.Layer{}
			if h >= 0 {
				l.Created = *at(h)
			}
			c = append(c, l)
		}
		return c
	}
	type entry struct {
		hour  int // -1: none
		empty bool
	}
	for _, c := range []struct {
		name    string
		history []entry
		chain   layers.Chain
		built   int // -1: not known
		want    []entry
	}{
		{"times of layers", []entry{{-1, false}, {-1, false}}, chain(1, 2), 9, []entry{{1, false}, {2, false}}},
		{"base keeps its times", []entry{{0, false}, {-1, false}}, chain(5, 2), 9, []entry{{0, false}, {2, false}}},
		{"empty ones after the base get the first new layer's", []entry{{0, false}, {-1, true}, {-1, false}, {-1, true}}, chain(-1, 3), -1,
			[]entry{{0, false}, {3, true}, {3, false}, {3, true}}},
		{"empty ones at the end get the time of the build", []entry{{0, false}, {-1, true}, {-1, false}, {-1, true}}, chain(-1, 3), 9,
			[]entry{{0, false}, {3, true}, {3, false}, {9, true}}},
		{"only empty ones are new", []entry{{0, false}, {-1, true}}, chain(-1), 9, []entry{{0, false}, {9, true}}},
		{"only empty ones are new, at an unknown time", []entry{{0, false}, {-1, true}}, chain(-1), -1, []entry{{0, false}, {0, true}}},
		{"no layer has a time", []entry{{-1, true}, {-1, false}}, chain(-1), 9, []entry{{9, true}, {9, false}}},
		{"layers without entries", nil, chain(1, 2), 9, []entry{{1, false}, {2, false}}},
		{"entries without layers", []entry{{0, false}, {-1, false}}, chain(0), 9, []entry{{0, false}, {9, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var history []ocispec.History
			for _, e := range c.history {
				h := ocispec.History{EmptyLayer: e.empty}
				if e.hour >= 0 {
					h.Created = at(e.hour)
				}
				history = append(history, h)
			}
			var built *time.Time
			if c.built >= 0 {
				built = at(c.built)
			}
			var got []entry
			for _, h := range fillHistory(history, c.chain, built) {
				got = append(got, entry{int(h.Created.Sub(noon) / time.Hour), h.EmptyLayer})
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// The time of an image is that of its build, or the epoch; not that of the base
// image, nor none.
func TestCreated(t *testing.T) {
	s := openStore(t)
	old, built := noon.Add(-1000*time.Hour), noon.Add(time.Hour)
	epoch := noon.Add(-time.Hour).Unix()
	below := layer(t, s, time.Time{}, regular("f", "of the base"))
	above := layer(t, s, noon, regular("g", "new"))
	base := ocispec.Image{Platform: amd64, Created: &old, History: []ocispec.History{{CreatedBy: "ADD rootfs", Created: &old}}}
	base.RootFS.DiffIDs = []digest.Digest{below.DiffID}
	for _, c := range []struct {
		name    string
		base    bool
		history []ocispec.History
		chain   layers.Chain
	}{
		{"base alone", true, nil, layers.Chain{below}},
		{"base and ENV", true, []ocispec.History{{CreatedBy: "ENV", EmptyLayer: true}}, layers.Chain{below}},
		{"base, COPY, ENV", true, []ocispec.History{{CreatedBy: "COPY"}, {CreatedBy: "ENV", EmptyLayer: true}}, layers.Chain{below, above}},
		{"base and COPY", true, []ocispec.History{{CreatedBy: "COPY"}}, layers.Chain{below, above}},
		{"scratch and ENV", false, []ocispec.History{{CreatedBy: "ENV", EmptyLayer: true}}, layers.Chain{}},
		{"scratch", false, nil, layers.Chain{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := ocispec.Image{Platform: amd64, History: c.history}
			img := Image{Platform: amd64, Chain: c.chain, Built: built}
			if c.base {
				img.BaseConfig, _ = json.Marshal(base)
				config.History = append(slices.Clone(base.History), c.history...)
			}
			img.Config, _ = json.Marshal(config)
			got := readConfig(t, s, assemble(t, s, Options{}, img))
			if got.Created == nil || !got.Created.Equal(built) {
				t.Errorf("created %v, want %v", got.Created, built)
			}
			img.Epoch = &epoch
			got = readConfig(t, s, assemble(t, s, Options{}, img))
			if got.Created == nil || got.Created.Unix() != epoch {
				t.Errorf("created %v, want the epoch", got.Created)
			}
		})
	}
}

// A base image that tells of fewer layers than it has gets the entries that it
// lacks, and those of new layers stay with these.
func TestHistoryOfBaseIsCompleted(t *testing.T) {
	s := openStore(t)
	one, two := layer(t, s, time.Time{}, regular("1", "1")), layer(t, s, time.Time{}, regular("2", "2"))
	above := layer(t, s, noon, regular("new", "new"))
	empty := layers.Layer{ID: layers.EmptyID}
	base := ocispec.Image{Platform: amd64, History: []ocispec.History{{CreatedBy: "ADD"}, {CreatedBy: "CMD", EmptyLayer: true}}}
	base.RootFS.DiffIDs = []digest.Digest{one.DiffID, two.DiffID}
	config := ocispec.Image{Platform: amd64, History: append(slices.Clone(base.History),
		ocispec.History{CreatedBy: "RUN nothing"}, ocispec.History{CreatedBy: "COPY new"})}
	img := Image{Platform: amd64, Chain: layers.Chain{one, two, empty, above}}
	img.BaseConfig, _ = json.Marshal(base)
	img.Config, _ = json.Marshal(config)
	var got []string
	for _, h := range readConfig(t, s, assemble(t, s, Options{}, img)).History {
		line := h.CreatedBy
		if h.EmptyLayer {
			line += " (empty)"
		}
		got = append(got, line)
	}
	want := []string{"ADD", "CMD (empty)", "layer " + two.DiffID.String(), "RUN nothing (empty)", "COPY new"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// Also where no entry is the base's, or no config tells anything.
	for _, img := range []Image{{Platform: amd64, Chain: layers.Chain{one, above}}, {Platform: amd64, Config: []byte(`{"os":"linux","architecture":"amd64"}`), Chain: layers.Chain{one, above}}} {
		for i, h := range readConfig(t, s, assemble(t, s, Options{}, img)).History {
			if h.CreatedBy != "layer "+img.Chain[i].DiffID.String() {
				t.Errorf("entry %d: created by %q", i, h.CreatedBy)
			}
		}
	}
}

func TestEpochClamps(t *testing.T) {
	s := openStore(t)
	img := sample(t, s, amd64)
	epoch := noon.Add(-24 * time.Hour).Unix()
	img.Epoch = &epoch
	old := noon.Add(-time.Minute)
	base := ocispec.Image{History: []ocispec.History{{CreatedBy: "ADD rootfs", Created: &old}}}
	img.BaseConfig, _ = json.Marshal(base)
	config := ocispec.Image{Platform: amd64, Created: &noon, History: append(base.History, ocispec.History{CreatedBy: "COPY"})}
	img.Config, _ = json.Marshal(config)
	got := readConfig(t, s, assemble(t, s, Options{}, img))
	if !got.History[0].Created.Equal(old) {
		t.Errorf("the base's entry has %v", got.History[0].Created)
	}
	if got.History[1].Created.Unix() != epoch || got.Created.Unix() != epoch {
		t.Errorf("new entry %v, image %v", got.History[1].Created, got.Created)
	}
}

func TestAssembleRefuses(t *testing.T) {
	s := openStore(t)
	good := sample(t, s, amd64)
	for _, c := range []struct {
		name string
		img  Image
		opts Options
		want string
	}{
		{"a layer that is not there", Image{Chain: layers.Chain{{ID: "run-1"}}}, Options{}, "run-1"},
		{"a config without platform", Image{Config: []byte(`{}`)}, Options{}, "os and architecture"},
		{"a null config", Image{Config: []byte(`null`)}, Options{}, "os and architecture"},
		{"zstd with docker types", good, Options{DockerTypes: true, Compression: archive.Compression{Type: archive.Zstd}}, "oci-mediatypes"},
		{"an index annotation without index", good, Options{Annotations: Annotations{{Level: annotateIndex, Key: "a"}}}, "one platform"},
		{"an annotation for another platform", good, Options{Annotations: Annotations{{Level: annotateManifest, Platform: &arm64, Key: "a"}}}, "not built"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Assemble(context.Background(), s, []Image{c.img}, c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnnotationsHaveTheirPlaces(t *testing.T) {
	s := openStore(t)
	var list Annotations
	for _, text := range []string{
		"a=general", "manifest[linux/arm64]:a=arm", "manifest,index:b=both", "index-descriptor:c=1", "manifest-descriptor:d=1",
	} {
		parsed, err := ParseAnnotation(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, parsed...)
	}
	b := assemble(t, s, Options{Annotations: list}, sample(t, s, amd64), sample(t, s, arm64))
	var index ocispec.Index
	read := func(d ocispec.Descriptor, v any) {
		data, err := ReadBlob(context.Background(), s, d)
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read(b.Desc, &index)
	for i, want := range []string{"general", "arm"} {
		var m ocispec.Manifest
		read(index.Manifests[i], &m)
		if m.Annotations["a"] != want || m.Annotations["b"] != "both" || index.Manifests[i].Annotations["d"] != "1" {
			t.Errorf("manifest %d: %v, its descriptor: %v", i, m.Annotations, index.Manifests[i].Annotations)
		}
	}
	if index.Annotations["b"] != "both" || b.Desc.Annotations["c"] != "1" {
		t.Errorf("index: %v, its descriptor: %v", index.Annotations, b.Desc.Annotations)
	}
}

func TestWriteSeveralOutputs(t *testing.T) {
	s, dir := openStore(t), t.TempDir()
	var outputs []Output
	for _, text := range []string{
		"type=oci,dest=" + dir + "/oci.tar", "type=oci,tar=false,dest=" + dir + "/layout", "type=docker,dest=" + dir + "/docker.tar",
		"type=tar,dest=" + dir + "/root.tar", "type=local,dest=" + dir + "/root", "type=image", "type=cacheonly", "type=oci",
	} {
		o, err := ParseOutput(text)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, o)
	}
	var stdout bytes.Buffer
	images := image.Open(s.Root(), s)
	env := Env{Store: s, Images: images, Stdout: &stdout}
	name := "docker.io/library/app:1"
	w, err := Write(context.Background(), env, []Image{sample(t, s, amd64)}, Options{}, outputs, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Places) != 5 || w.Image == nil {
		t.Errorf("written: %+v", w)
	}
	if d, err := images.Get(name); err != nil || d.Digest != w.Image.Digest() {
		t.Errorf("the store has %v, %v", d, err)
	}
	validateLayout(t, filepath.Join(dir, "layout"))
	archived, err := os.ReadFile(filepath.Join(dir, "oci.tar"))
	if err != nil || !bytes.Equal(archived, stdout.Bytes()) {
		t.Errorf("the same output twice is not the same: %v", err)
	}
	for _, name := range []string{"oci.tar", "docker.tar"} {
		to := filepath.Join(dir, "unpacked-"+name)
		unpackTar(t, filepath.Join(dir, name), to)
		validateLayout(t, to)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestFailedFileOutputLeavesTheOldOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.tar")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(t.Context(), path, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 2<<20))
		if err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("it has %q, %v", data, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
}

// A layout that cannot be written is as it was before.
func TestFailedLayoutLeavesNothing(t *testing.T) {
	s, dir := openStore(t), filepath.Join(t.TempDir(), "layout")
	b, err := Assemble(context.Background(), s, []Image{sample(t, s, amd64)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := WriteLayout(ctx, []Named{{Built: b}}, dir, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	// Its last file but one cannot be written.
	if err := os.MkdirAll(filepath.Join(dir, "oci-layout"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteLayout(context.Background(), []Named{{Built: b}}, dir, func(string) {}); err == nil {
		t.Fatal("no error")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// A config that nobody could read again is not written.
func TestHugeConfig(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = putBlob(t.Context(), s, make([]byte, manifest.MaxBytes+1), ocispec.MediaTypeImageConfig)
	var hint interface{ HintText() string }
	if !errors.As(err, &hint) || !strings.Contains(err.Error(), "must not have more than") {
		t.Error(err)
	}
	if _, err := putBlob(t.Context(), s, make([]byte, manifest.MaxBytes), ocispec.MediaTypeImageConfig); err != nil {
		t.Error(err)
	}
}
