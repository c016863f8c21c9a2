// Package catalog finds the packages in an image with syft. It reads files in layers
// through their tables of contents, without unpacking them. Each layer is looked at by
// itself, and what was found in it is kept (Cache) with the answers of all look-ups
// that it depends on; syft's own finishing then goes over the whole. Documents have the
// same bytes for the same image. The package does not know where layers come from.
package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/sinter-build/sinter/layers"
)

// Image is a file system to look for packages in. It is safe for concurrent use.
type Image struct {
	// Layers are its layers, the lowest first.
	Layers []Layer
	view   *layers.View
	trees  []*layers.Tree
	files  *index
	open   Open

	mu               sync.Mutex
	inMemory, copies shelf
	failure          error
}

// Layer is one layer of an image.
type Layer struct {
	// ID is what the layer's cached result is kept under; empty if nothing is kept.
	ID string
	// Digest is what documents call the layer; it may be empty.
	Digest string
}

// Open opens a regular file of a layer.
type Open func(ctx context.Context, layer int, e layers.Entry) (io.ReadCloser, error)

// NewImage returns the image of layers with these trees, in the same order.
func NewImage(list []Layer, trees []*layers.Tree, open Open) (*Image, error) {
	if len(list) != len(trees) {
		return nil, fmt.Errorf("%d layers with %d trees", len(list), len(trees))
	}
	im := &Image{Layers: list, view: layers.NewView(trees), trees: trees, open: open,
		inMemory: shelf{max: maxMemory}, copies: shelf{max: maxCopies}}
	var err error
	im.files, err = newIndex(im)
	return im, err
}

// place is a regular file of an image and the path that it was found by.
type place struct {
	layers.Named
	// access is the path that led to it: absolute, with symlinks.
	access string
}

// real is the file's own path.
func (p place) real() string { return "/" + p.Path }

// at returns the regular file that a path leads to.
func (im *Image) at(path string) (place, bool) {
	resolved, err := im.view.Resolve(path, true)
	if err != nil {
		return place{}, false // too many symlinks, or a file as a directory
	}
	e, layer, ok := im.view.Lookup(resolved)
	if !ok || e.Kind != layers.File {
		return place{}, false
	}
	return place{layers.Named{Entry: e, Layer: layer}, path}, true
}

// has reports whether a path leads to anything.
func (im *Image) has(path string) bool {
	resolved, err := im.view.Resolve(path, true)
	if err != nil {
		return false
	}
	_, _, ok := im.view.Lookup(resolved)
	return ok
}

// identify names a file, or none, for those who remember it: a layer does not change.
func (im *Image) identify(found ...place) string {
	if len(found) == 0 {
		return ""
	}
	h := sha256.New()
	for _, p := range found {
		fmt.Fprintf(h, "%s\x00%s\x00%s\x00", im.Layers[p.Layer].ID, p.Path, p.access)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// fail remembers the first error of the store. Catalogers take an error for a file that
// cannot be parsed and go on, so whoever ran them asks afterwards.
func (im *Image) fail(err error) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.failure == nil {
		im.failure = err
	}
	return err
}

// failed returns the first error of the store.
func (im *Image) failed() error {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.failure
}
