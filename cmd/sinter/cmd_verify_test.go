package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/store"
)

// TestVerifyRemovedImage: what is wrong with an image that has lost its name since the
// images were listed is due to its removal, and not damage.
func TestVerifyRemovedImage(t *testing.T) {
	ctx, root := t.TempDir(), filepath.Join(t.TempDir(), "store")
	if err := os.WriteFile(filepath.Join(ctx, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{"build", "-q", "--root", root, "-t", "app", ctx}, os.Stdin, io.Discard, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	a := &app{stdout: io.Discard, stderr: io.Discard, rootFlag: root, retries: -1}
	defer a.close(t.Context())
	env, err := a.library()
	if err != nil {
		t.Fatal(err)
	}
	list, err := env.Images.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%d images, %v", len(list), err)
	}
	img := list[0]
	built, err := stored.Open(t.Context(), env.Store, img.Desc)
	if err != nil {
		t.Fatal(err)
	}
	blob := built.Manifests[0].Layers[0].Descriptor.Digest
	if err := os.Remove(filepath.Join(root, store.BlobPart(blob))); err != nil {
		t.Fatal(err)
	}
	if lines := verifyImage(t.Context(), env.Env, img, layerCheck{store: env.Store}); len(lines) != 1 {
		t.Errorf("an image without its layer: %q", lines)
	}
	if err := env.Images.Remove(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	if lines := verifyImage(t.Context(), env.Env, img, layerCheck{store: env.Store}); len(lines) != 0 {
		t.Errorf("an image that was removed: %q", lines)
	}
}
