package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// LayerUsage is the room that a layer's own folder takes.
type LayerUsage struct {
	Layer layers.Layer
	// Size is in bytes, of all forms but the blob.
	Size int64
	// Used is when one of its forms was made.
	Used time.Time
	// Variants are the layer's other blobs, which images wanted.
	Variants []digest.Digest
}

// IDs returns the names of all layers.
func (s *Store) IDs() ([]layers.ID, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "layers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ids := make([]layers.ID, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, layers.ID(e.Name()))
	}
	return ids, nil
}

// Usage returns the room that each layer takes, in no order. What known says, which
// Usage returned before, is not measured again, nor what it does not have; nil measures
// everything. It fails when ctx ends.
func (s *Store) Usage(ctx context.Context, known []LayerUsage) ([]LayerUsage, error) {
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	sizes := map[layers.ID]int64{}
	for _, u := range known {
		sizes[u.Layer.ID] = u.Size
	}
	usage := make([]LayerUsage, 0, len(ids))
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		u := LayerUsage{Layer: layers.Layer{ID: id}, Size: sizes[id]}
		m, err := s.readMeta(id)
		switch {
		case err == nil:
			u.Layer = m.Layer
			for _, v := range m.Variants {
				u.Variants = append(u.Variants, v.Descriptor.Digest)
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
		if u.Used, err = s.lastMade(id); err == nil && known == nil {
			u.Size, _, err = folder.Measure(ctx, s.layerPath(id, ""))
		}
		if err != nil {
			return nil, err
		}
		usage = append(usage, u)
	}
	return usage, nil
}

// lastMade returns when a form of a layer was last made.
func (s *Store) lastMade(id layers.ID) (at time.Time, err error) {
	entries, err := os.ReadDir(s.layerPath(id, ""))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return at, nil
	}
	if err != nil {
		return at, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.Name() != dirName && e.Name() != oneUserName && info.ModTime().After(at) {
			at = info.ModTime()
		}
	}
	return at, nil
}
