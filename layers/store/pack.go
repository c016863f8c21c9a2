package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
)

// Pack returns the layer with a diff ID and a blob, made of whatever form there
// is. A layer that has them is returned as it is: its compression stays.
func (s *Store) Pack(ctx context.Context, l layers.Layer, c archive.Compression) (layers.Layer, error) {
	if done, ok := s.packed(l.ID); ok {
		return done, nil
	}
	unlock, err := s.lockLayer(ctx, l.ID)
	if err != nil {
		return l, err
	}
	defer unlock()
	// Another process may have done it.
	s.reread(l.ID)
	if done, ok := s.packed(l.ID); ok {
		return done, nil
	}
	m, err := s.meta(l.ID)
	if err == nil {
		err = s.pack(ctx, &m, c)
	}
	if err != nil {
		return l, fmt.Errorf("packing layer %s: %w", l.ID, err)
	}
	return m.Layer, nil
}

func (s *Store) packed(id layers.ID) (layers.Layer, bool) {
	m, err := s.meta(id)
	if err != nil || m.Layer.Descriptor.Digest == "" {
		return layers.Layer{}, false
	}
	// A blob that was pulled can be pulled again; one that was made here
	// must be here.
	if len(m.Layer.Origins) > 0 || s.Blobs.whole(m.Layer.Descriptor) {
		return m.Layer, true
	}
	return layers.Layer{}, false
}

func (s *Store) pack(ctx context.Context, m *meta, c archive.Compression) error {
	t, err := s.tree(m.Layer.ID)
	if err != nil {
		return err
	}
	var p archive.Packed
	put := func() error { return s.putTree(m.Layer.ID, t) }
	err = s.Blobs.Create(func(blob io.Writer) (digest.Digest, error) {
		tar, err := os.Open(s.layerPath(m.Layer.ID, tarName))
		switch {
		case err == nil:
			defer tar.Close()
			p, err = archive.Repack(ctx, bufio.NewReaderSize(tar, 1<<20), t, blob, c)
		case errors.Is(err, fs.ErrNotExist):
			var packed *layers.EncodedTree
			packed, p, err = s.packDir(ctx, m.Layer, t, blob, c)
			put = func() error { return s.putEncoded(m.Layer.ID, packed) }
		}
		if err == nil && m.Layer.DiffID != "" && m.Layer.DiffID != p.DiffID {
			err = fmt.Errorf("%w: packed again it is %s, not %s", folder.ErrCorrupt, p.DiffID, m.Layer.DiffID)
		}
		return p.Digest, err
	})
	if err != nil {
		return err
	}
	m.Layer.DiffID = p.DiffID
	m.describe(p, c)
	done, err := s.writing(m.Layer.ID)
	if err != nil {
		return err
	}
	defer done()
	// The tree before the description: with the old description the new
	// tree's offsets are not used, the other way round they would be wrong.
	if err := put(); err != nil {
		return err
	}
	return s.putMeta(*m)
}

// packDir writes the blob of a layer that is a directory, and returns its tree
// with digests and with offsets into the tar.
func (s *Store) packDir(ctx context.Context, l layers.Layer, t *layers.Tree, blob io.Writer, c archive.Compression) (*layers.EncodedTree, archive.Packed, error) {
	root, ok, err := s.dirOf(l.ID)
	if err != nil {
		return nil, archive.Packed{}, err
	}
	if !ok {
		return nil, archive.Packed{}, ErrNoForm
	}
	w := archive.NewPacker(blob, c, nil, nil)
	defer w.Abort()
	for _, e := range t.Entries {
		err := archive.Add(ctx, w, e, func() (io.ReadCloser, error) {
			r, err := s.openStored(root, e)
			return archive.ContextReadCloser(ctx, r), err
		})
		if err != nil {
			return nil, archive.Packed{}, err
		}
	}
	p, err := w.Close()
	return w.Tree(), p, err
}
