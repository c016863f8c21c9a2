package gc

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/stored"
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
	manifest := func(b *stored.Image) ocispec.Descriptor { return b.Desc }
	config := func(b *stored.Image) ocispec.Descriptor { return b.Manifests[0].Config }
	for name, c := range map[string]struct {
		of      func(*stored.Image) ocispec.Descriptor
		damage  func(string) error
		blobs   int
		diffIDs int
		err     error
	}{
		"sound":               {of: manifest, damage: func(string) error { return nil }, blobs: 3, diffIDs: 1},
		"torn manifest":       {of: manifest, damage: torn, blobs: 1},
		"missing manifest":    {of: manifest, damage: os.Remove, blobs: 1},
		"torn config":         {of: config, damage: torn, blobs: 3},
		"missing config":      {of: config, damage: os.Remove, blobs: 3},
		"directory as config": {of: config, damage: directory, blobs: 3},
		"unreadable manifest": {of: manifest, damage: loop, err: unix.ELOOP},
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
