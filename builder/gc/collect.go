// Package gc finds out what takes room in a store and removes what is not
// needed.
//
// It takes stock, then plans without touching anything (plan.go), then acts
// (prune.go). The invariant: nothing that a kept image, a kept record or another
// process needs is removed, and whatever names something goes before what it names, so
// that an interrupted collection leaves only garbage.
package gc

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
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
	// Builds are what is written down of builds, for people.
	Builds []Folder
	// Referrers are lists of what refers to a manifest or index.
	Referrers []Folder

	// claims are what other processes use, and inUse what the images among that
	// need.
	claims store.Claims
	inUse  []Image
}

// Image is a tagged (or nameless) image and what it needs.
type Image struct {
	image.Image
	Blobs   map[digest.Digest]bool
	DiffIDs map[digest.Digest]bool
}

// Take lists what the store holds.
func Take(ctx context.Context, env Env) (*Stock, error) {
	claims, err := env.Store.Claimed()
	if err != nil {
		return nil, fmt.Errorf("looking for what other processes use: %w", err)
	}
	return take(ctx, env, claims, nil)
}

// take is Take with claims that are known. What was measured before is not measured
// again, nor is what was not there then.
func take(ctx context.Context, env Env, claims store.Claims, before *Stock) (*Stock, error) {
	s := &Stock{claims: claims}
	if err := s.takeImages(ctx, env); err != nil {
		return nil, err
	}
	var measured []store.LayerUsage
	if before != nil {
		measured = before.Layers
	}
	var err error
	if s.Records, err = env.Cache.All(ctx); err != nil {
		return nil, err
	}
	if s.Layers, err = env.Store.Usage(ctx, measured); err != nil {
		return nil, fmt.Errorf("measuring layers: %w", err)
	}
	if s.Blobs, err = env.Store.Blobs.All(); err != nil {
		return nil, fmt.Errorf("measuring blobs: %w", err)
	}
	if before == nil {
		err = s.takeFolders(ctx, env.Store.Root())
	} else {
		err = s.retakeFolders(env.Store.Root(), before)
	}
	return s, errors.Join(err, ctx.Err())
}

// takeImages finds out what images need, also those that other processes use and that
// may have no name any more.
func (s *Stock) takeImages(ctx context.Context, env Env) error {
	list, err := env.Images.List()
	if err != nil {
		return err
	}
	// An image may have any number of names.
	known := map[digest.Digest]Image{}
	find := func(img image.Image) (Image, error) {
		needed, ok := known[img.Desc.Digest]
		if !ok {
			var err error
			if needed, err = needs(env.Images, img); err != nil {
				return needed, err
			}
			known[img.Desc.Digest] = needed
		}
		needed.Image = img
		return needed, nil
	}
	for _, img := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		needed, err := find(img)
		if err != nil {
			return err
		}
		s.Images = append(s.Images, needed)
	}
	for _, d := range s.claims.Images() {
		needed, err := find(image.Image{Desc: ocispec.Descriptor{Digest: d}})
		if err != nil {
			return err
		}
		s.inUse = append(s.inUse, needed)
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
