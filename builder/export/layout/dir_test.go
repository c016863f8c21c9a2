package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/store"
)

// TestLayoutStaysInside: symlinks that somebody planted in a layout lead no write
// out of it.
func TestLayoutStaysInside(t *testing.T) {
	for _, planted := range []string{"index.json", "oci-layout", "blobs"} {
		t.Run(planted, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			victim := filepath.Join(outside, "victim")
			if planted != "blobs" {
				if err := os.WriteFile(victim, []byte(`{"schemaVersion":2}`), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if err := os.MkdirAll(filepath.Join(victim, "sha256"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(victim, filepath.Join(dir, planted)); err != nil {
				t.Fatal(err)
			}
			s := exporttest.OpenStore(t)
			err := WriteDir(t.Context(), []Named{{Image: assembled(t, s, sample(t, s, exporttest.AMD64))}}, dir, func(string) {})
			if planted == "oci-layout" {
				// Nobody reads it, so the link is replaced.
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
			if planted == "blobs" {
				if left, err := os.ReadDir(filepath.Join(victim, "sha256")); err != nil || len(left) > 0 {
					t.Errorf("written outside: %v, %v", left, err)
				}
			} else if data, err := os.ReadFile(victim); string(data) != `{"schemaVersion":2}` || err != nil {
				t.Errorf("the file outside holds %q, %v", data, err)
			}
		})
	}
}

// TestLayoutOfManyStores: builds with different stores lose no entry of the layout
// that they write.
func TestLayoutOfManyStores(t *testing.T) {
	const stores, exports = 2, 4
	dir := t.TempDir()
	var group errgroup.Group
	for i := range stores {
		s := exporttest.OpenStore(t)
		b := assembled(t, s, sample(t, s, exporttest.AMD64))
		for j := range exports {
			images := []Named{{Image: b, Names: []string{fmt.Sprintf("docker.io/library/app:%d-%d", i, j)}}}
			group.Go(func() error {
				return write(t.Context(), images, dir, place.Turns{Store: s, Wait: place.MaxWait, Warn: func(text string) { t.Errorf("warned: %s", text) }})
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err = errors.Join(err, json.Unmarshal(data, &index)); err != nil {
		t.Fatal(err)
	}
	if got := len(index.Manifests); got != stores*exports {
		t.Errorf("the index has %d manifests of %d", got, stores*exports)
	}
}

// A layout that cannot be written is as it was before.
func TestFailedLayoutLeavesNothing(t *testing.T) {
	s, dir := exporttest.OpenStore(t), filepath.Join(t.TempDir(), "layout")
	b := assembled(t, s, sample(t, s, exporttest.AMD64))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := WriteDir(ctx, []Named{{Image: b}}, dir, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	// Its last file but one cannot be written.
	if err := os.MkdirAll(filepath.Join(dir, "oci-layout"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteDir(context.Background(), []Named{{Image: b}}, dir, func(string) {}); err == nil {
		t.Fatal("no error")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestEmptyImage(t *testing.T) {
	s, dir := exporttest.OpenStore(t), t.TempDir()
	b := assembled(t, s, assemble.Part{Platform: ocispec.Platform{OS: "linux", Architecture: "riscv64"}})
	if err := WriteDir(context.Background(), []Named{{Image: b}}, dir, func(string) {}); err != nil {
		t.Fatal(err)
	}
	exporttest.ValidateLayout(t, dir)
}

// sample is an image of two layers.
func sample(t *testing.T, s *store.Store, p ocispec.Platform) assemble.Part {
	t.Helper()
	config, chain := exporttest.Sample(t, s, p)
	return assemble.Part{Platform: p, Config: config, Chain: chain}
}

func assembled(t *testing.T, s *store.Store, p assemble.Part) *stored.Image {
	t.Helper()
	b, err := assemble.Image(t.Context(), s, []assemble.Part{p}, assemble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
