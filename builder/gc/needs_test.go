package gc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/image"
)

// What is damaged of an image costs only that; what cannot be read just now stops
// the collection.
func TestNeedsOfDamagedImages(t *testing.T) {
	path := func(env Env, d ocispec.Descriptor) string {
		return filepath.Join(env.Store.Root(), "blobs/sha256", d.Digest.Encoded())
	}
	loop := func(path string) error {
		return errors.Join(os.Remove(path), os.Symlink(filepath.Base(path), path))
	}
	torn := func(path string) error { return os.Truncate(path, 3) }
	directory := func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) }
	root := func(b *stored.Image) ocispec.Descriptor { return b.Desc }
	config := func(b *stored.Image) ocispec.Descriptor { return b.Manifests[0].Config }
	for name, c := range map[string]struct {
		of      func(*stored.Image) ocispec.Descriptor
		damage  func(string) error
		blobs   int
		diffIDs int
		err     error
	}{
		"sound":               {of: root, damage: func(string) error { return nil }, blobs: 3, diffIDs: 1},
		"torn manifest":       {of: root, damage: torn, blobs: 1},
		"missing manifest":    {of: root, damage: os.Remove, blobs: 1},
		"torn config":         {of: config, damage: torn, blobs: 3},
		"missing config":      {of: config, damage: os.Remove, blobs: 3},
		"directory as config": {of: config, damage: directory, blobs: 3},
		"unreadable manifest": {of: root, damage: loop, err: unix.ELOOP},
		"unreadable config":   {of: config, damage: loop, err: unix.ELOOP},
	} {
		t.Run(name, func(t *testing.T) {
			env := openEnv(t)
			b := buildImage(t, env, "a")
			if err := env.Images.Put(t.Context(), "host/a:1", b.Desc); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(path(env, c.of(b))); err != nil {
				t.Fatal(err)
			}
			s, err := Take(t.Context(), env)
			if !errors.Is(err, c.err) {
				t.Fatalf("Take: %v", err)
			}
			if err != nil {
				return
			}
			if n := s.Images[0]; len(n.Blobs) != c.blobs || len(n.DiffIDs) != c.diffIDs {
				t.Errorf("it needs %d blobs and %d layers, not %d and %d", len(n.Blobs), len(n.DiffIDs), c.blobs, c.diffIDs)
			}
		})
	}
}

// All that is named is found, also deeper than anything that comes into a store: indexes in
// indexes down to an image, and as many of them that refer to that; a manifest that is a
// layer of another; one whose descriptor is wrong at first.
func TestNeedsOfNestedImages(t *testing.T) {
	env := openEnv(t)
	put := func(mediaType string, document any) ocispec.Descriptor {
		data, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		d, err := env.Store.Blobs.Add(t.Context(), data, mediaType)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var want []ocispec.Descriptor
	nested := func(inner ocispec.Descriptor, subject *ocispec.Descriptor) ocispec.Descriptor {
		for i := range manifest.MaxNesting {
			index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{inner}}
			if i == manifest.MaxNesting-1 {
				index.Subject = subject
			}
			inner = put(ocispec.MediaTypeImageIndex, index)
			want = append(want, inner)
		}
		return inner
	}
	a, b, c := buildImage(t, env, "a"), buildImage(t, env, "b"), buildImage(t, env, "c")
	for _, img := range []*stored.Image{a, b, c} {
		want = append(want, img.Blobs()...)
	}
	root := nested(a.Desc, nil)
	referrer := nested(b.Desc, &a.Desc)
	if err := env.Images.AddReferrers(t.Context(), manifest.Referrer{Subject: a.Desc.Digest, Desc: referrer}); err != nil {
		t.Fatal(err)
	}
	artifact := put(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: b.Manifests[0].Config, Layers: []ocispec.Descriptor{c.Desc}})
	wrong := c.Desc
	wrong.Size = 1 << 40
	top := put(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{artifact, wrong, c.Desc, root}})
	n, err := needs(env.Images, image.Image{Desc: top})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(want, artifact, top) {
		if !n.Blobs[d.Digest] {
			t.Errorf("%s %s would be removed", d.MediaType, d.Digest)
		}
	}
	if len(n.DiffIDs) != 3 {
		t.Errorf("%d layers, want 3", len(n.DiffIDs))
	}
}

// A config may have anything beside what an image needs.
func TestNeedsOfAConfigWithMore(t *testing.T) {
	env := openEnv(t)
	b := buildImage(t, env, "a")
	layer := b.Manifests[0].Layers[0].DiffID
	for _, more := range []string{`"config": {"Size": "small", "Annotations": []}`, `"layers": 1, "manifests": {"a": 1}`} {
		config, err := env.Store.Blobs.Add(t.Context(), fmt.Appendf(nil, `{%s, "rootfs": {"type": "layers", "diff_ids": [%q]}}`, more, layer), ocispec.MediaTypeImageConfig)
		if err != nil {
			t.Fatal(err)
		}
		n, err := needs(env.Images, image.Image{Desc: config})
		if err != nil || !n.DiffIDs[layer] {
			t.Errorf("%s: its layer would be removed (%v)", more, err)
		}
	}
}

// A layer whose description cannot be read just now stops the collection too.
func TestTakeStopsAtUnreadableLayers(t *testing.T) {
	env := openEnv(t)
	b := buildImage(t, env, "a")
	path := filepath.Join(env.Store.Root(), "layers", string(b.Manifests[0].Layers[0].ID), "layer.json")
	if err := errors.Join(os.Remove(path), os.Symlink("layer.json", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(t.Context(), env); !errors.Is(err, unix.ELOOP) {
		t.Errorf("Take: %v", err)
	}
}
