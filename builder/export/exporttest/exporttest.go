// Package exporttest has images for tests of what makes, writes and reads them.
package exporttest

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
)

// Platforms and a time of tests.
var (
	AMD64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	ARM64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	Noon  = time.Date(2024, 1, 2, 12, 0, 0, 0, time.UTC)
)

// OpenStore returns a new store.
func OpenStore(t *testing.T) *store.Store {
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

// File is an entry with its content.
type File struct {
	layers.Entry
	Content string
}

// Regular is a regular file.
func Regular(path, content string) File {
	return File{layers.Entry{Path: path, Mode: 0o644, ModTime: Noon.UnixNano()}, content}
}

// Layer writes a layer of files, which are in order.
func Layer(t *testing.T, s *store.Store, created time.Time, files ...File) layers.Layer {
	t.Helper()
	w, err := s.NewWriter(context.Background(), store.Forms{Blob: true}, archive.Compression{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, f := range files {
		if f.Kind == layers.File {
			f.Size = int64(len(f.Content))
		}
		if err := w.Add(f.Entry, strings.NewReader(f.Content)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := w.Commit(created)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Sample is the config and the chain of an image of two layers: files of all kinds, and changes of them.
func Sample(t *testing.T, s *store.Store, p ocispec.Platform) (config []byte, chain layers.Chain) {
	t.Helper()
	bin := File{layers.Entry{Path: "bin", Kind: layers.Dir, Mode: 0o755, ModTime: Noon.UnixNano()}, ""}
	below := Layer(t, s, Noon,
		bin, Regular("bin/sh", "shell of "+p.Architecture),
		File{layers.Entry{Path: "bin/sh2", Kind: layers.Hardlink, Link: "bin/sh"}, ""},
		Regular("gone", "x"),
		File{layers.Entry{Path: "link", Kind: layers.Symlink, Target: "bin/sh"}, ""})
	above := Layer(t, s, Noon.Add(time.Hour),
		File{layers.Entry{Path: "gone", Kind: layers.Whiteout}, ""},
		File{layers.Entry{Path: "secret", Kind: layers.Dir, Mode: 0o1700, ModTime: Noon.UnixNano()}, ""},
		File{layers.Entry{Path: "secret/set", Mode: 0o4755, ModTime: Noon.UnixNano()}, "setuid"})
	config, err := json.Marshal(ocispec.Image{Platform: p, Config: ocispec.ImageConfig{Cmd: []string{"sh"}},
		History: []ocispec.History{
			{CreatedBy: "ADD rootfs"}, {CreatedBy: "CMD", EmptyLayer: true}, {CreatedBy: "COPY", Comment: "buildkit.dockerfile.v0"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	return config, layers.Chain{below, above}
}

// ValidateLayout recomputes every digest of the only entry of a layout.
func ValidateLayout(t *testing.T, dir string) {
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

// UnpackTar unpacks a file into a new directory.
func UnpackTar(t *testing.T, file, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xf", file, "-C", to).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}
