package assemble

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/export/layout"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
)

// sample is an image of two layers.
func sample(t *testing.T, s *store.Store, p ocispec.Platform) Part {
	t.Helper()
	config, chain := exporttest.Sample(t, s, p)
	return Part{Platform: p, Config: config, Chain: chain}
}

func assemble(t *testing.T, s *store.Store, o Options, imgs ...Part) *stored.Image {
	t.Helper()
	b, err := Image(context.Background(), s, imgs, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAssemble(t *testing.T) {
	for _, c := range []struct {
		name      string
		platforms []ocispec.Platform
		opts      Options
		mediaType string
	}{
		{"one platform", []ocispec.Platform{exporttest.AMD64}, Options{}, ocispec.MediaTypeImageManifest},
		{"docker types", []ocispec.Platform{exporttest.AMD64}, Options{DockerTypes: true}, manifest.DockerManifest},
		{"two platforms", []ocispec.Platform{exporttest.AMD64, exporttest.ARM64}, Options{}, ocispec.MediaTypeImageIndex},
		{"index of one", []ocispec.Platform{exporttest.AMD64}, Options{Index: true}, ocispec.MediaTypeImageIndex},
		{"docker list", []ocispec.Platform{exporttest.AMD64, exporttest.ARM64}, Options{DockerTypes: true}, manifest.DockerIndex},
		{"zstd", []ocispec.Platform{exporttest.AMD64}, Options{Compression: archive.Compression{Type: archive.Zstd}}, ocispec.MediaTypeImageManifest},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := exporttest.OpenStore(t)
			var imgs []Part
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
			if err := layout.WriteDir(context.Background(), []layout.Named{{Image: b, Names: []string{"docker.io/library/app:1"}}}, dir, func(string) {}); err != nil {
				t.Fatal(err)
			}
			// validate.Image takes every layer for gzip.
			if c.opts.Compression.Type == "" {
				exporttest.ValidateLayout(t, dir)
			}
			again, err := stored.Open(context.Background(), s, b.Desc)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := digests(again), digests(b); !reflect.DeepEqual(got, want) || again.Size() != b.Size() {
				t.Errorf("read again it is %v, not %v", got, want)
			}
			checkDiffIDs(t, b)
		})
	}
}

func digests(b *stored.Image) (list []digest.Digest) {
	for _, d := range b.Blobs() {
		list = append(list, d.Digest)
	}
	return list
}

// checkDiffIDs uncompresses every layer.
func checkDiffIDs(t *testing.T, b *stored.Image) {
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

func readConfig(t *testing.T, s *store.Store, b *stored.Image) (img ocispec.Image) {
	t.Helper()
	data, err := stored.ReadBlob(context.Background(), s, b.Manifests[0].Config)
	if err == nil {
		err = json.Unmarshal(data, &img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestConfigIsFinished(t *testing.T) {
	s := exporttest.OpenStore(t)
	img := sample(t, s, exporttest.AMD64)
	got := readConfig(t, s, assemble(t, s, Options{}, img))
	var times []string
	for _, h := range got.History {
		times = append(times, h.Created.Format("15:04"))
	}
	// CMD gets the time of the layer after it, as with BuildKit.
	if strings.Join(times, " ") != "12:00 13:00 13:00" {
		t.Errorf("history: %v", times)
	}
	if got.Created == nil || !got.Created.Equal(exporttest.Noon.Add(time.Hour)) {
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
	s := exporttest.OpenStore(t)
	img := sample(t, s, exporttest.AMD64)
	img.Config = []byte(`{"os":"linux","architecture":"amd64","created":"2020-01-01T00:00:00Z","config":{"OnBuild":["RUN x"]},"x":[1]}`)
	b := assemble(t, s, Options{}, img)
	data, err := stored.ReadBlob(context.Background(), s, b.Manifests[0].Config)
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
	at := func(h int) *time.Time { x := exporttest.Noon.Add(time.Duration(h) * time.Hour); return &x }
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
				got = append(got, entry{int(h.Created.Sub(exporttest.Noon) / time.Hour), h.EmptyLayer})
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
	s := exporttest.OpenStore(t)
	old, built := exporttest.Noon.Add(-1000*time.Hour), exporttest.Noon.Add(time.Hour)
	epoch := exporttest.Noon.Add(-time.Hour).Unix()
	below := exporttest.Layer(t, s, time.Time{}, exporttest.Regular("f", "of the base"))
	above := exporttest.Layer(t, s, exporttest.Noon, exporttest.Regular("g", "new"))
	base := ocispec.Image{Platform: exporttest.AMD64, Created: &old, History: []ocispec.History{{CreatedBy: "ADD rootfs", Created: &old}}}
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
			config := ocispec.Image{Platform: exporttest.AMD64, History: c.history}
			img := Part{Platform: exporttest.AMD64, Chain: c.chain, Built: built}
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
	s := exporttest.OpenStore(t)
	one, two := exporttest.Layer(t, s, time.Time{}, exporttest.Regular("1", "1")), exporttest.Layer(t, s, time.Time{}, exporttest.Regular("2", "2"))
	above := exporttest.Layer(t, s, exporttest.Noon, exporttest.Regular("new", "new"))
	empty := layers.Layer{ID: layers.EmptyID}
	base := ocispec.Image{Platform: exporttest.AMD64, History: []ocispec.History{{CreatedBy: "ADD"}, {CreatedBy: "CMD", EmptyLayer: true}}}
	base.RootFS.DiffIDs = []digest.Digest{one.DiffID, two.DiffID}
	config := ocispec.Image{Platform: exporttest.AMD64, History: append(slices.Clone(base.History),
		ocispec.History{CreatedBy: "RUN nothing"}, ocispec.History{CreatedBy: "COPY new"})}
	img := Part{Platform: exporttest.AMD64, Chain: layers.Chain{one, two, empty, above}}
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
	for _, img := range []Part{{Platform: exporttest.AMD64, Chain: layers.Chain{one, above}}, {Platform: exporttest.AMD64, Config: []byte(`{"os":"linux","architecture":"amd64"}`), Chain: layers.Chain{one, above}}} {
		for i, h := range readConfig(t, s, assemble(t, s, Options{}, img)).History {
			if h.CreatedBy != "layer "+img.Chain[i].DiffID.String() {
				t.Errorf("entry %d: created by %q", i, h.CreatedBy)
			}
		}
	}
}

func TestEpochClamps(t *testing.T) {
	s := exporttest.OpenStore(t)
	img := sample(t, s, exporttest.AMD64)
	epoch := exporttest.Noon.Add(-24 * time.Hour).Unix()
	img.Epoch = &epoch
	old := exporttest.Noon.Add(-time.Minute)
	base := ocispec.Image{History: []ocispec.History{{CreatedBy: "ADD rootfs", Created: &old}}}
	img.BaseConfig, _ = json.Marshal(base)
	config := ocispec.Image{Platform: exporttest.AMD64, Created: &exporttest.Noon, History: append(base.History, ocispec.History{CreatedBy: "COPY"})}
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
	s := exporttest.OpenStore(t)
	good := sample(t, s, exporttest.AMD64)
	for _, c := range []struct {
		name string
		img  Part
		opts Options
		want string
	}{
		{"a layer that is not there", Part{Chain: layers.Chain{{ID: "run-1"}}}, Options{}, "run-1"},
		{"a config without platform", Part{Config: []byte(`{}`)}, Options{}, "os and architecture"},
		{"a null config", Part{Config: []byte(`null`)}, Options{}, "os and architecture"},
		{"zstd with docker types", good, Options{DockerTypes: true, Compression: archive.Compression{Type: archive.Zstd}}, "oci-mediatypes"},
		{"an index annotation without index", good, Options{Annotations: annotation.List{{Level: annotation.Index, Key: "a"}}}, "one platform"},
		{"an annotation for another platform", good, Options{Annotations: annotation.List{{Level: annotation.Manifest, Platform: &exporttest.ARM64, Key: "a"}}}, "not built"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Image(context.Background(), s, []Part{c.img}, c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnnotationsHaveTheirPlaces(t *testing.T) {
	s := exporttest.OpenStore(t)
	var list annotation.List
	for _, text := range []string{
		"a=general", "manifest[linux/arm64]:a=arm", "manifest,index:b=both", "index-descriptor:c=1", "manifest-descriptor:d=1",
	} {
		parsed, err := annotation.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, parsed...)
	}
	b := assemble(t, s, Options{Annotations: list}, sample(t, s, exporttest.AMD64), sample(t, s, exporttest.ARM64))
	var index ocispec.Index
	read := func(d ocispec.Descriptor, v any) {
		data, err := stored.ReadBlob(context.Background(), s, d)
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

// A config that nobody could read again is not written.
func TestHugeConfig(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = putBlob(t.Context(), s, make([]byte, manifest.MaxBytes+1), ocispec.MediaTypeImageConfig)
	var hinted interface{ HintText() string }
	if !errors.As(err, &hinted) || !strings.Contains(err.Error(), "must not have more than") {
		t.Error(err)
	}
	if _, err := putBlob(t.Context(), s, make([]byte, manifest.MaxBytes), ocispec.MediaTypeImageConfig); err != nil {
		t.Error(err)
	}
}
