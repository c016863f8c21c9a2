package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// Available reports whether the blob of a layer is in the store with its full
// length, or known where to be got.
func (s *Store) Available(l layers.Layer) bool {
	return l.Descriptor.Digest.Validate() == nil && (len(l.Origins) > 0 && s.opt.Fetch != nil || s.Blobs.whole(l.Descriptor))
}

// Usable says why a layer cannot be used, if it cannot: ErrNoForm when what is left
// of it is at most a directory that is not the one that was made here.
func (s *Store) Usable(l layers.Layer) error {
	if s.Available(l) {
		return nil
	}
	if l.Descriptor.Digest != "" {
		return fmt.Errorf("layer %s: its blob %s is damaged or gone", l.ID, l.Descriptor.Digest)
	}
	if _, err := s.tree(l.ID); err != nil {
		return fmt.Errorf("layer %s: reading its table of contents: %w", l.ID, err)
	}
	if _, err := os.Lstat(s.layerPath(l.ID, tarName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, ok, err := s.dirOf(l.ID)
	if err != nil || ok {
		return err
	}
	return ofLayer(l, ErrNoForm)
}

// OpenBlob returns the compressed bytes of a layer, getting and keeping them
// when they are not on disk. The reader fails at its end when they are not what
// the digest says, and when ctx ends.
func (s *Store) OpenBlob(ctx context.Context, l layers.Layer) (io.ReadCloser, error) {
	if err := s.haveBlob(ctx, l); err != nil {
		return nil, err
	}
	return s.Blobs.open(ctx, l)
}

// haveBlob gets the blob of a layer if it is not on disk.
func (s *Store) haveBlob(ctx context.Context, l layers.Layer) error {
	if l.Descriptor.Digest == "" {
		return ofLayer(l, errors.New("it has no blob"))
	}
	if err := l.Descriptor.Digest.Validate(); err != nil {
		return ofLayer(l, fmt.Errorf("blob %q: %w", l.Descriptor.Digest, err))
	}
	if s.Blobs.whole(l.Descriptor) {
		return nil
	}
	if s.readOnly() {
		return ofLayer(l, s.missing(fmt.Errorf("its blob %s is not in the store", l.Descriptor.Digest)))
	}
	if s.opt.Fetch == nil || len(l.Origins) == 0 {
		return ofLayer(l, fmt.Errorf("its blob %s is not in the store, and where it came from is not known", l.Descriptor.Digest))
	}
	unlock, err := s.Lock(ctx, "blob-"+l.Descriptor.Digest.Encoded(), "blob "+l.Descriptor.Digest.String()+", which is being fetched elsewhere")
	if err != nil {
		return err
	}
	defer unlock()
	if s.Blobs.whole(l.Descriptor) {
		return nil
	}
	return ofLayer(l, s.fetch(ctx, l))
}

// fetchAttempts is how often a blob is fetched that arrives damaged.
const fetchAttempts = 2

// fetch gets the blob of a layer. One that is damaged on its way is fetched again.
func (s *Store) fetch(ctx context.Context, l layers.Layer) error {
	for n := 1; ; n++ {
		r, err := s.opt.Fetch(ctx, l)
		if err != nil {
			return err
		}
		err = errors.Join(s.Blobs.Put(ctx, l.Descriptor, r), r.Close())
		if !errors.Is(err, folder.ErrCorrupt) || n >= fetchAttempts {
			return err
		}
		s.opt.Warn(fmt.Sprintf("the blob of layer %s arrived damaged and is fetched again: %v", l.ID, err))
	}
}

// Fetch gets the blobs of a chain that are not on disk, several at once.
func (s *Store) Fetch(ctx context.Context, c layers.Chain) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(6)
	for _, l := range c {
		group.Go(func() error { return s.haveBlob(ctx, l) })
	}
	return group.Wait()
}
