package source

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
)

// chainFS is the root file system that a chain of layers makes, read from the
// store without unpacking or mounting anything.
type chainFS struct {
	store *store.Store
	chain layers.Chain
	view  *layers.View
}

// OpenChain returns the files of a chain.
func OpenChain(ctx context.Context, s *store.Store, c layers.Chain) (FS, error) {
	v, err := s.View(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("reading the contents of %d layers: %w", len(c), err)
	}
	return &chainFS{store: s, chain: c, view: v}, nil
}

func (f *chainFS) Lookup(path string) (layers.Entry, bool, error) {
	e, _, ok := f.view.Lookup(path)
	return e, ok, nil
}

func (f *chainFS) ReadDir(path string) ([]layers.Entry, error) {
	named := f.view.ReadDir(path)
	entries := make([]layers.Entry, len(named))
	for i, n := range named {
		entries[i] = n.Entry
	}
	return entries, nil
}

func (f *chainFS) Resolve(path string, followLast bool) (string, error) {
	return f.view.Resolve(path, followLast)
}

func (f *chainFS) Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error) {
	stored, layer, ok := f.view.Lookup(e.Path)
	if !ok || stored.Kind != layers.File {
		return nil, fmt.Errorf("opening /%s: %w", e.Path, fs.ErrNotExist)
	}
	return f.store.OpenFile(ctx, f.chain[layer], stored)
}

func (f *chainFS) Digest(ctx context.Context, e layers.Entry) (digest.Digest, error) {
	if e.Sum.Known() {
		return e.Sum.Digest(), nil
	}
	stored, layer, ok := f.view.Lookup(e.Path)
	if !ok || stored.Kind != layers.File {
		return "", fmt.Errorf("reading /%s: %w", e.Path, fs.ErrNotExist)
	}
	return f.store.Digest(ctx, f.chain[layer], stored)
}
