package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// ErrNoForm is about a layer of which nothing is left that can be read.
var ErrNoForm = errors.New("no blob, tar or directory of it can be used")

// A LayerError is a layer that could not be had, or that cannot be read. Of a blob that
// is not known to be of a layer, Layer has the Descriptor alone.
type LayerError struct {
	Layer layers.Layer
	Err   error
}

func (e *LayerError) Error() string {
	switch {
	case e.Layer.ID == "":
		return fmt.Sprintf("blob %s: %v", e.Layer.Descriptor.Digest, e.Err)
	case len(e.Layer.Origins) > 0:
		return fmt.Sprintf("layer %s of %s: %v", e.Layer.ID, e.Layer.Origins[0], e.Err)
	}
	return fmt.Sprintf("layer %s: %v", e.Layer.ID, e.Err)
}

// Unwrap returns the reason.
func (e *LayerError) Unwrap() error { return e.Err }

// HintText says what to do about a layer whose bytes are wrong.
func (e *LayerError) HintText() string {
	var disk *fs.PathError
	switch {
	case errors.Is(e.Err, errUnclaimed):
		return "this process could not lock the store, which it can only read: try again; if it stays so, have the image built or pulled again"
	case errors.Is(e.Err, errCannotGet):
		return "build or pull the image in a store that can be written to, or name another store with --root DIR or SINTER_ROOT"
	case errors.Is(e.Err, ErrChanged):
		return "build again: the layer is then made anew; nothing but sinter may change files in its store"
	case errors.As(e.Err, &disk), errors.Is(e.Err, context.Canceled):
		return ""
	case len(e.Layer.Origins) == 0 && errors.Is(e.Err, ErrDiffID):
		return "the image that the layer came with is at fault: choose another, or have it built again"
	case len(e.Layer.Origins) > 0:
		return fmt.Sprintf("the image in %s is at fault: choose another tag, or have it built and pushed again", e.Layer.Origins[0])
	}
	return "sinter verify --repair removes what is damaged in the store; then it is made or got again"
}

// ofLayer says which layer err is about, once.
func ofLayer(l layers.Layer, err error) error {
	var known *LayerError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &LayerError{Layer: l, Err: err}
}

// A foreignError is about files in the store that this user may not remove.
type foreignError struct {
	path string
	err  error
}

func (e *foreignError) Error() string { return fmt.Sprintf("removing %s: %v", e.path, e.err) }

// Unwrap returns the reason.
func (e *foreignError) Unwrap() error { return e.err }

// HintText says whose files these are.
func (e *foreignError) HintText() string {
	return "its files may belong to IDs that this user had when they were made: give the user the same ranges in /etc/subuid and /etc/subgid again, or remove it as root: rm -rf " + e.path
}

// removeAll removes what this user's builds made, as folder.RemoveAll does.
func removeAll(ctx context.Context, path string) error {
	err := folder.RemoveAll(ctx, path)
	if errors.Is(err, fs.ErrPermission) {
		err = &foreignError{path, err}
	}
	return err
}
