package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

var now = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func ago(hours int) time.Time { return now.Add(-time.Duration(hours) * time.Hour) }

func dig(name string) digest.Digest { return digest.FromString(name) }

// stocked is a stock described in a few words.
type stocked struct{ Stock }

// layer adds a layer of 10 bytes with a blob of 100.
func (s *stocked) layer(name string, hours int) {
	l := layers.Layer{ID: layers.ID(name), DiffID: dig("diff " + name), Descriptor: ocispec.Descriptor{Digest: dig(name)}}
	s.Layers = append(s.Layers, store.LayerUsage{Layer: l, Size: 10, Used: ago(hours)})
	s.blob(name, hours)
}

func (s *stocked) blob(name string, hours int) {
	s.Blobs = append(s.Blobs, store.BlobUsage{Digest: dig(name), Size: 100, Made: ago(hours)})
}

// image adds an image of layers, with a manifest.
func (s *stocked) image(ref string, pulled bool, hours int, layers ...string) {
	manifest := "manifest of " + ref + strings.Join(layers, "+")
	img := Image{
		Image: image.Image{Ref: ref, Pulled: pulled, Updated: ago(hours), Desc: ocispec.Descriptor{Digest: dig(manifest)}},
		Blobs: map[digest.Digest]bool{dig(manifest): true}, DiffIDs: map[digest.Digest]bool{},
	}
	for _, l := range layers {
		img.Blobs[dig(l)], img.DiffIDs[dig("diff "+l)] = true, true
	}
	s.Images = append(s.Images, img)
	s.blob(manifest, hours)
}

func (s *stocked) step(name string, hours int, layers ...string) {
	s.Records = append(s.Records, cache.Stored{
		Record: &cache.Record{Key: cache.Recipe{{Name: "step", Value: name}}.Key(), Name: name, Outputs: []cache.Output{{Layers: layers}}},
		Used:   ago(hours), Size: 1,
	})
}

func (s *stocked) mount(name string, hours int) {
	s.Mounts = append(s.Mounts, Folder{Path: "mounts/" + name, Size: 1000, Used: ago(hours)})
}

// sample has a tagged image, a pulled one that it is built on, a nameless one,
// and cache that no image has.
func sample() *stocked {
	s := &stocked{}
	s.layer("base", 50)
	s.layer("app", 40)
	s.layer("old", 30)
	s.layer("stage", 20)
	s.layer("orphan", 45)
	s.image("docker.io/library/base:1", true, 50, "base")
	s.image("docker.io/library/app:1", false, 40, "base", "app")
	s.image("", false, 30, "base", "old")
	s.step("app", 40, "base", "app")
	s.step("old", 30, "base", "old")
	s.step("stage", 20, "stage")
	s.step("lost", 1, "gone")
	s.mount("m", 10)
	s.blob("loose", 60)
	s.Notes = []Folder{{Path: "content/aa", Size: 5, Used: ago(35)}}
	return s
}

// names lists what a plan removes.
func (s *stocked) names(p *Plan) string {
	var list []string
	for _, img := range p.Images {
		list = append(list, "image "+img.Ref)
	}
	for _, r := range p.Records {
		list = append(list, "step "+r.Record.Name)
	}
	for _, l := range p.Layers {
		list = append(list, "layer "+string(l.Layer.ID))
	}
	known := map[digest.Digest]string{}
	for _, name := range []string{"base", "app", "old", "stage", "orphan", "loose", "manifest of base+old",
		"manifest of docker.io/library/base:1base", "manifest of docker.io/library/app:1base+app"} {
		known[dig(name)] = name
	}
	for _, b := range p.Blobs {
		list = append(list, "blob "+known[b.Digest])
	}
	for _, f := range append(slices.Clone(p.Mounts), p.Notes...) {
		list = append(list, f.Path)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// TestPlanVariants has an image of a layer's variant: the layer is what the image
// is made of, but the image is complete without it.
func TestPlanVariants(t *testing.T) {
	for _, all := range []bool{false, true} {
		s := &stocked{}
		s.layer("app", 40)
		s.blob("variant", 40)
		s.Layers[0].Variants = []digest.Digest{dig("other"), dig("variant")}
		s.image("docker.io/library/app:1", false, 40, "variant")
		s.step("app", 40, "app")
		want := ""
		if all {
			want = "blob app, layer app, step app"
		}
		if got := s.names(s.Plan(Options{All: all})); got != want {
			t.Errorf("all %v: %q goes, not %q", all, got, want)
		}
	}
}

// TestPlanClaims: a layer of another image that claims the diff ID of a kept image's
// layer is not kept for that.
func TestPlanClaims(t *testing.T) {
	s := &stocked{}
	s.layer("app", 40)
	s.image("docker.io/library/app:1", false, 40, "app")
	claims := layers.Layer{DiffID: dig("diff app"), Descriptor: ocispec.Descriptor{Digest: dig("orphan")}}
	claims.ID = layers.BaseID(claims.Descriptor, claims.DiffID)
	s.Layers = append(s.Layers, store.LayerUsage{Layer: claims, Size: 10, Used: ago(40)})
	s.blob("orphan", 40)
	if got, want := s.names(s.Plan(Options{})), "blob orphan, layer "+string(claims.ID); got != want {
		t.Errorf("%q goes, not %q", got, want)
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"what no named image needs", Options{},
			"blob loose, blob manifest of base+old, blob old, blob orphan, blob stage, content/aa, image , layer old, layer orphan, layer stage, mounts/m, step lost, step old, step stage"},
		{"all", Options{All: true},
			"blob loose, blob manifest of base+old, blob manifest of docker.io/library/base:1base, blob old, blob orphan, blob stage, content/aa, " +
				"image , image docker.io/library/base:1, layer old, layer orphan, layer stage, mounts/m, step app, step lost, step old, step stage"},
		{"until", Options{Until: ago(25)},
			"blob loose, blob manifest of base+old, blob old, blob orphan, content/aa, image , layer old, layer orphan, step lost, step old"},
		{"nothing is that old", Options{Until: ago(100)}, "step lost"},
		{"all, but only what is old", Options{All: true, Until: ago(45)},
			"blob loose, blob manifest of docker.io/library/base:1base, blob orphan, image docker.io/library/base:1, layer orphan, step lost"},
		// The cache: 1 byte for each step, 110 for each of old and stage,
		// 1000 for the mount.
		{"everything fits", Options{Keep: Space{Reserved: 10_000}},
			"blob loose, blob manifest of base+old, blob orphan, image , layer orphan, step lost"},
		{"the longest unused goes", Options{Keep: Space{Reserved: 1150}},
			"blob loose, blob manifest of base+old, blob old, blob orphan, image , layer old, layer orphan, step lost, step old"},
		{"one byte", Options{Keep: Space{Reserved: 1}},
			"blob loose, blob manifest of base+old, blob old, blob orphan, blob stage, image , layer old, layer orphan, layer stage, mounts/m, step lost, step old, step stage"},
		{"images", Options{Only: OnlyImages},
			"blob loose, blob manifest of base+old, blob orphan, image , layer orphan"},
		{"all images", Options{Only: OnlyImages, All: true},
			"blob loose, blob manifest of base+old, blob manifest of docker.io/library/base:1base, blob orphan, image , image docker.io/library/base:1, layer orphan"},
		{"images that match", Options{Only: OnlyImages, All: true, Match: func(img image.Image) bool { return img.Ref != "" }},
			"blob loose, blob manifest of docker.io/library/base:1base, blob orphan, image docker.io/library/base:1, layer orphan"},
		{"cache", Options{Only: OnlyCache},
			"blob loose, blob orphan, blob stage, content/aa, layer orphan, layer stage, mounts/m, step lost, step stage"},
		{"all cache", Options{Only: OnlyCache, All: true},
			"blob loose, blob orphan, blob stage, content/aa, layer orphan, layer stage, mounts/m, step app, step lost, step old, step stage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sample()
			if got := s.names(s.Plan(c.o)); got != c.want {
				t.Errorf("removes\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestSpace(t *testing.T) {
	for _, c := range []struct {
		space Space
		want  int64
	}{
		{Space{Reserved: 10}, 10},
		{Space{MaxUsed: 60}, 60},
		{Space{Reserved: 70, MaxUsed: 60}, 70},
		{Space{MinFree: 30, Free: 40}, 100},
		{Space{MinFree: 50, Free: 40}, 90},
		{Space{MinFree: 500, Free: 40}, 0},
		{Space{Reserved: 20, MinFree: 500, Free: 40}, 20},
		{Space{MaxUsed: 95, MinFree: 50, Free: 40}, 90},
		{Space{MaxUsed: 60, MinFree: 50, Free: 40}, 60},
	} {
		if got := c.space.keep(100); got != c.want || !c.space.isLimit() {
			t.Errorf("of 100 bytes %+v keeps %d, want %d", c.space, got, c.want)
		}
	}
	if (Space{Free: 40}).isLimit() {
		t.Error("no option is a limit")
	}
}

// TestPlanKeepsWhatIsNeeded: whatever the options, what stays is whole.
func TestPlanKeepsWhatIsNeeded(t *testing.T) {
	for i, o := range []Options{{}, {All: true}, {Until: ago(25)}, {Until: ago(45), All: true}, {Keep: Space{Reserved: 1}}, {Keep: Space{Reserved: 1150}}, {Keep: Space{Reserved: 1200}, All: true},
		{Only: OnlyImages}, {Only: OnlyImages, All: true}, {Only: OnlyCache}, {Only: OnlyCache, All: true}} {
		s := sample()
		p := s.Plan(o)
		gone := map[string]bool{}
		for _, b := range p.Blobs {
			gone["blob "+b.Digest.String()] = true
		}
		for _, l := range p.Layers {
			gone["layer "+string(l.Layer.ID)] = true
			gone["diff "+l.Layer.DiffID.String()] = true
		}
		for _, r := range p.Records {
			gone["step "+r.Record.Key.String()] = true
		}
		for _, r := range s.Records {
			for _, id := range layerIDs(r.Record) {
				if !gone["step "+r.Record.Key.String()] && gone["layer "+string(id)] {
					t.Errorf("%d: step %s loses layer %s", i, r.Record.Name, id)
				}
			}
		}
		for _, img := range s.Images {
			if slices.ContainsFunc(p.Images, func(x Image) bool { return x.Ref == img.Ref }) {
				continue
			}
			for d := range img.Blobs {
				if gone["blob "+d.String()] {
					t.Errorf("%d: image %s loses a blob", i, img.Ref)
				}
			}
			for d := range img.DiffIDs {
				if gone["diff "+d.String()] {
					t.Errorf("%d: image %s loses a layer", i, img.Ref)
				}
			}
		}
		for _, l := range s.Layers {
			if !gone["layer "+string(l.Layer.ID)] && gone["blob "+l.Layer.Descriptor.Digest.String()] {
				t.Errorf("%d: layer %s loses its blob", i, l.Layer.ID)
			}
		}
	}
}

func TestNamelessWithANameStays(t *testing.T) {
	s := &stocked{}
	s.image("x", false, 1)
	same := s.Images[0]
	same.Ref = ""
	s.Images = append(s.Images, same)
	if p := s.Plan(Options{}); len(p.Images) != 0 {
		t.Errorf("removes %+v", p.Images)
	}
}

func TestFreed(t *testing.T) {
	s := sample()
	// Five blobs, three layers, three records, a mount, a note.
	if got, want := s.Plan(Options{}).Freed(), int64(5*100+3*10+3+1000+5); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

// TestApply collects a real store.
func TestApply(t *testing.T) {
	ctx := context.Background()
	env := openEnv(t)
	kept, lost := buildImage(t, env, "kept"), buildImage(t, env, "lost")
	for ref, b := range map[string]*stored.Image{"docker.io/library/kept:1": kept, "": lost} {
		if err := env.Images.Put(ctx, ref, b.Desc); err != nil {
			t.Fatal(err)
		}
	}
	record := &cache.Record{Key: cache.Recipe{{Name: "a", Value: "b"}}.Key(), Outputs: []cache.Output{{Layers: []string{string(lost.Manifests[0].Layers[0].ID)}}}}
	if err := env.Cache.Put(record); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(env.Store.Root(), "mounts", "m", "fs", "locked")
	if err := os.MkdirAll(filepath.Join(locked, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	found := filepath.Join(env.Store.Root(), "sbom", "answers", "x")
	if err := os.MkdirAll(filepath.Dir(found), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(found, []byte("packages"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Prune(ctx, env, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(found); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is noted of packages stays: %v", err)
	}
	if got := fmt.Sprintf("%d images, %d records, %d layers, %d blobs, %d mounts", len(p.Images), len(p.Records), len(p.Layers), len(p.Blobs), len(p.Mounts)); got != "1 images, 1 records, 1 layers, 3 blobs, 1 mounts" {
		t.Errorf("plan: %s", got)
	}
	if problems, err := env.Store.Verify(ctx); err != nil || len(problems) > 0 {
		t.Errorf("afterwards: %v, %v", problems, err)
	}
	again, err := stored.Open(ctx, env.Store, kept.Desc)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range again.Blobs() {
		if !env.Store.Blobs.Has(d) {
			t.Errorf("blob %s of the kept image is gone", d.Digest)
		}
	}
	stock, err := Take(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	if len(stock.Images)+len(stock.Records)+len(stock.Layers)+len(stock.Blobs)+len(stock.Mounts) != 1+0+1+3+0 {
		t.Errorf("left: %+v", stock)
	}
}

// refer adds a manifest with a blob that is about subject, and says how it is described.
func refer(t *testing.T, env Env, subject ocispec.Descriptor, what string) ocispec.Descriptor {
	t.Helper()
	blob, err := env.Store.Blobs.Add(t.Context(), []byte(what), "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob, Layers: []ocispec.Descriptor{blob}, Subject: &subject})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := env.Store.Blobs.Add(t.Context(), data, ocispec.MediaTypeImageManifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Images.AddReferrers(t.Context(), manifest.Referrer{Subject: subject.Digest, Desc: desc}); err != nil {
		t.Fatal(err)
	}
	return desc
}

// What refers to an image that stays is kept, also in several steps; what refers to one
// that goes, goes with it, and so does the list.
func TestReferrersStayWithTheirSubject(t *testing.T) {
	env := openEnv(t)
	kept, lost := buildImage(t, env, "kept"), buildImage(t, env, "lost")
	if err := env.Images.Put(t.Context(), "docker.io/library/kept:1", kept.Desc); err != nil {
		t.Fatal(err)
	}
	chain := []ocispec.Descriptor{kept.Desc}
	for i := range manifest.MaxNesting {
		chain = append(chain, refer(t, env, chain[i], fmt.Sprint(i)))
	}
	gone := refer(t, env, lost.Desc, "gone")
	refer(t, env, gone, "gone too")
	p, err := Prune(t.Context(), env, Options{All: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Referrers) != 2 || p.Freed() == 0 {
		t.Errorf("lists that went: %v", p.Referrers)
	}
	list, err := stored.Referrers(t.Context(), env.Store, env.Images, kept.Digest())
	if err != nil || len(list) != manifest.MaxNesting {
		t.Errorf("left: %+v, %v", list, err)
	}
	for i, r := range list {
		if r.Digest() != chain[i+1].Digest || len(r.Missing) > 0 {
			t.Errorf("referrer %d is %s and lacks %v", i, r.Digest(), r.Missing)
		}
	}
	if env.Store.Blobs.Has(gone) {
		t.Error("what referred to the image that went is still there")
	}
	if subjects, err := env.Images.Subjects(); err != nil || len(subjects) != manifest.MaxNesting {
		t.Errorf("subjects: %v, %v", subjects, err)
	}
}

func openEnv(t *testing.T) Env {
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
	c, err := cache.Open(s.Root())
	if err != nil {
		t.Fatal(err)
	}
	return Env{Store: s, Cache: c, Images: image.Open(s.Root(), s)}
}

func buildImage(t *testing.T, env Env, content string) *stored.Image {
	t.Helper()
	w, err := env.Store.NewWriter(context.Background(), store.Forms{Blob: true, Dir: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(layers.Entry{Path: "f", Mode: 0o644, UID: os.Getuid(), GID: os.Getgid(), Size: int64(len(content))}, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	l, err := w.Commit(now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := assemble.Image(context.Background(), env.Store, []assemble.Part{{Chain: layers.Chain{l}, Platform: ocispec.Platform{OS: "linux", Architecture: content}}}, assemble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
