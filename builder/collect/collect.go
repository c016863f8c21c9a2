// Package collect finds out what takes room in a store and removes what is not
// needed.
//
// It takes stock, then plans without touching anything (plan.go), then acts. The
// invariant: nothing that a kept image or a kept record needs is removed, and
// whatever names something goes before what it names, so that an interrupted
// collection leaves only garbage. Apply must be called with the store locked
// against builds (cache.Store.Exclude).
package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// Env is a store with all that is in it.
type Env struct {
	Store  *store.Store
	Cache  *cache.Store
	Images *image.Images
}

// Stock is what a store holds.
type Stock struct {
	Images  []Image
	Records []cache.Stored
	Layers  []store.LayerUsage
	Blobs   []store.BlobUsage
	Mounts  []Folder
	// Downloads are files from the web, and repositories with their
	// checkouts.
	Downloads []Folder
	// Notes are small files that only save time: content digests and context
	// indexes.
	Notes []Folder
}

// Image is a tagged (or nameless) image and what it needs.
type Image struct {
	image.Image
	Blobs   map[digest.Digest]bool
	DiffIDs map[digest.Digest]bool
}

// Folder is a file or a directory with all that is in it.
type Folder struct {
	// Path is below the store's root.
	Path string
	Size int64
	// Used is when something in it was last changed.
	Used time.Time
	// From is the address that a download came from.
	From string
}

// downloadDirs are the folders of the store that hold what came from elsewhere.
var downloadDirs = []string{"downloads", "git"}

// noteDirs are the folders of the store that hold notes.
var noteDirs = []string{"content", "contexts"}

// Take lists what the store holds.
func Take(ctx context.Context, env Env) (*Stock, error) {
	s := &Stock{}
	list, err := env.Images.List()
	if err != nil {
		return nil, err
	}
	for _, img := range list {
		needed, err := needs(env.Images, img)
		if err != nil {
			return nil, err
		}
		s.Images = append(s.Images, needed)
	}
	if s.Records, err = env.Cache.All(); err != nil {
		return nil, err
	}
	if s.Layers, err = env.Store.Usage(); err != nil {
		return nil, fmt.Errorf("measuring layers: %w", err)
	}
	if s.Blobs, err = env.Store.Blobs(); err != nil {
		return nil, fmt.Errorf("measuring blobs: %w", err)
	}
	if s.Mounts, err = folders(env.Store.Root(), "mounts"); err != nil {
		return nil, fmt.Errorf("measuring cache mounts: %w", err)
	}
	for _, dir := range downloadDirs {
		found, err := folders(env.Store.Root(), dir)
		if err != nil {
			return nil, fmt.Errorf("measuring %s: %w", dir, err)
		}
		for i := range found {
			found[i].From = source.Origin(filepath.Join(env.Store.Root(), found[i].Path))
		}
		s.Downloads = append(s.Downloads, found...)
	}
	for _, dir := range noteDirs {
		notes, err := folders(env.Store.Root(), dir)
		if err != nil {
			return nil, fmt.Errorf("measuring %s: %w", dir, err)
		}
		s.Notes = append(s.Notes, notes...)
	}
	return s, ctx.Err()
}

// folders measures everything directly in a folder of the store.
func folders(root, dir string) ([]Folder, error) {
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Folder
	for _, e := range entries {
		f := Folder{Path: filepath.Join(dir, e.Name())}
		err := filepath.WalkDir(filepath.Join(root, f.Path), func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return ignoreUnreadable(err)
			}
			info, err := d.Info()
			if err != nil {
				return ignoreUnreadable(err)
			}
			if d.Type().IsRegular() {
				f.Size += info.Size()
			}
			if info.ModTime().After(f.Used) {
				f.Used = info.ModTime()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// ignoreUnreadable lets a plain user measure what he may see, and others work
// meanwhile.
func ignoreUnreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Apply removes what the plan says, and locks that nobody holds.
func (p *Plan) Apply(ctx context.Context, env Env) error {
	for _, img := range p.Images {
		if err := removeImage(ctx, env.Images, img); err != nil {
			return err
		}
	}
	for _, r := range p.Records {
		if err := env.Cache.Remove(r.Record.Key); err != nil {
			return fmt.Errorf("removing record %s: %w", r.Record.Key, err)
		}
	}
	for _, list := range [][]Folder{p.Notes, p.Mounts, p.Downloads} {
		for _, f := range list {
			if err := folder.RemoveAll(filepath.Join(env.Store.Root(), f.Path)); err != nil {
				return fmt.Errorf("removing %s: %w", f.Path, err)
			}
		}
	}
	for _, l := range p.Layers {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := env.Store.RemoveLayer(l.Layer.ID); err != nil {
			return err
		}
	}
	for _, b := range p.Blobs {
		if err := env.Store.RemoveBlob(b.Digest); err != nil {
			return fmt.Errorf("removing blob %s: %w", b.Digest, err)
		}
	}
	if err := env.Store.RemoveReplaced(); err != nil {
		return fmt.Errorf("removing what was replaced: %w", err)
	}
	return removeLocks(env.Store.Root())
}

// removeImage leaves an image alone that was named anew since stock was taken.
func removeImage(ctx context.Context, images *image.Images, img Image) error {
	err := images.Remove(ctx, img.Image)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, image.ErrMoved) {
		return nil
	}
	return err
}

// removeLocks removes the locks of steps, layers and blobs. With the store
// locked nobody holds one.
func removeLocks(root string) error {
	dir := filepath.Join(root, "locks")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, prefix := range []string{"step-", "layer-", "blob-", "convert-"} {
			if !strings.HasPrefix(e.Name(), prefix) {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Steps counts the records that are about steps.
func Steps(records []cache.Stored) int {
	n := 0
	for _, r := range records {
		if r.Record.Kind == cache.Step {
			n++
		}
	}
	return n
}

// layerIDs are the layers of a record's results.
func layerIDs(r *cache.Record) []layers.ID {
	var ids []layers.ID
	for _, o := range r.Outputs {
		for _, id := range o.Layers {
			ids = append(ids, layers.ID(id))
		}
	}
	return ids
}
