package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Forms are those in which a new layer is wanted at once. Others are made of
// these when somebody asks for them. At least one must be set.
type Forms struct {
	Blob, Tar, Dir bool
}

// Writer makes a new layer of entries. It must be ended with Commit or Abort.
type Writer struct {
	s     *Store
	ctx   context.Context //nolint:containedctx // a Writer lives within one call of its maker
	forms Forms
	kind  archive.Compression
	dir   string
	blob  *os.File
	tar   *os.File
	holes *archive.HoleWriter // to tar

	packer *archive.Packer // nil without a blob
	writer *archive.Writer // instead of it
	ended  bool
}

// entries takes the entries of a layer: a packer or a writer.
type entries interface {
	Add(e layers.Entry, content io.Reader) error
	Tree() *layers.EncodedTree
}

func (w *Writer) entries() entries {
	if w.packer != nil {
		return w.packer
	}
	return w.writer
}

// NewWriter begins a layer; c is how its blob, if one is wanted, is compressed.
func (s *Store) NewWriter(ctx context.Context, forms Forms, c archive.Compression) (*Writer, error) {
	dir, err := s.TempDir("layer-")
	if err != nil {
		return nil, err
	}
	w := &Writer{s: s, ctx: ctx, forms: forms, kind: c, dir: dir}
	if forms.Blob {
		w.blob, err = os.Create(filepath.Join(dir, "blob"))
	}
	// Commit unpacks the tar into a directory and removes it.
	if err == nil && (forms.Tar || forms.Dir || !forms.Blob) {
		w.tar, err = os.Create(filepath.Join(dir, tarName))
	}
	if err != nil {
		w.Abort()
		return nil, fmt.Errorf("beginning a layer: %w", err)
	}
	if w.tar != nil {
		w.holes = archive.NewHoleWriter(w.tar)
	}
	switch {
	case w.blob != nil && w.tar != nil:
		w.packer = archive.NewPacker(w.blob, c, w.holes, nil)
	case w.blob != nil:
		w.packer = archive.NewPacker(w.blob, c, nil, nil)
	default:
		w.writer = archive.NewWriter(w.holes, nil)
	}
	return w, nil
}

// Add appends an entry, in the order of layers.ComparePaths. content is read to
// the end of a regular file's size, and is nil for anything else.
func (w *Writer) Add(e layers.Entry, content io.Reader) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	return hostfile.Full(w.entries().Add(e, content), w.dir)
}

// Abort gives the layer up. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	if w.packer != nil {
		w.packer.Abort()
	}
	for _, f := range []*os.File{w.blob, w.tar} {
		if f != nil {
			f.Close()
		}
	}
	_ = w.s.RemoveTemp(w.dir)
}

// Commit ends the layer and keeps it. Its ID is its diff ID, so when the same
// layer is there already, that one stays and gets the forms it did not have.
func (w *Writer) Commit(created time.Time) (layers.Layer, error) {
	l, err := w.commit(created)
	if err != nil {
		err = hostfile.Full(err, w.dir)
		w.Abort()
		return layers.Layer{}, fmt.Errorf("ending a layer: %w", err)
	}
	w.ended = true
	return l, w.s.RemoveTemp(w.dir)
}

func (w *Writer) commit(created time.Time) (layers.Layer, error) {
	m := meta{Layer: layers.Layer{Created: created}}
	if err := w.finish(&m); err != nil {
		return layers.Layer{}, err
	}
	m.Layer.ID = layers.ID(m.Layer.DiffID.Encoded())
	unlock, err := w.s.lockLayer(w.ctx, m.Layer.ID)
	if err != nil {
		return layers.Layer{}, err
	}
	defer unlock()
	// Also when there is one: that may be a damaged one.
	if w.blob != nil {
		if err := w.s.Blobs.place(w.blob.Name(), m.Layer.Descriptor.Digest); err != nil {
			return layers.Layer{}, err
		}
	}
	if err := w.addDir(m.Layer.ID); err != nil {
		return layers.Layer{}, err
	}
	if w.tar != nil && !w.forms.Tar && (w.forms.Dir || w.forms.Blob) {
		if err := os.Remove(w.tar.Name()); err != nil {
			return layers.Layer{}, err
		}
	}
	old, err := w.s.readMeta(m.Layer.ID)
	switch {
	case err == nil:
		return w.merge(old, m)
	case !errors.Is(err, fs.ErrNotExist):
		return layers.Layer{}, err
	}
	return w.place(m)
}

// finish closes the files and describes them.
func (w *Writer) finish(m *meta) error {
	if w.packer != nil {
		p, err := w.packer.Close()
		if err != nil {
			return err
		}
		m.Layer.DiffID = p.DiffID
		m.describe(p, w.kind)
	} else {
		var err error
		if m.Layer.DiffID, _, err = w.writer.Close(); err != nil {
			return err
		}
	}
	if w.holes != nil {
		if err := w.holes.Finish(); err != nil {
			return err
		}
	}
	for _, f := range []*os.File{w.blob, w.tar} {
		if f == nil {
			continue
		}
		if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// describe notes the blob that p is about.
func (m *meta) describe(p archive.Packed, c archive.Compression) {
	m.Layer.Descriptor = ocispec.Descriptor{MediaType: c.MediaType(), Digest: p.Digest, Size: p.Size}
	c = c.Canonical()
	m.Chunks, m.Kind, m.Level = p.Chunks, c.Type, c.Level
}

// addDir makes the directory if it is wanted and the layer does not have it.
func (w *Writer) addDir(id layers.ID) error {
	if !w.forms.Dir {
		return nil
	}
	if made, err := w.s.isMade(w.s.layerPath(id, w.s.dirName())); err != nil || made {
		return err
	}
	return w.makeDir()
}

// makeDir unpacks the tar that was just written.
func (w *Writer) makeDir() error {
	dir := filepath.Join(w.dir, w.s.dirName())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	t, err := openTarFile(w.tar.Name(), archive.Uncompressed, nil)
	if err != nil {
		return err
	}
	defer t.close()
	if err := w.s.unpack(w.ctx, w.entries().Tree().Decode(), t.Content, dir); err != nil {
		return err
	}
	m, err := w.s.markOf(w.ctx, dir)
	if err != nil {
		return err
	}
	return w.s.markMade(dir, m)
}

// place makes the new layer's folder in one rename.
func (w *Writer) place(m meta) (layers.Layer, error) {
	id := m.Layer.ID
	if err := w.s.replace(id); err != nil {
		return layers.Layer{}, err
	}
	if w.blob != nil {
		if err := removeIfThere(w.blob.Name()); err != nil {
			return layers.Layer{}, err
		}
	}
	// The tree is decoded when it is first wanted: what has been written may be large.
	if err := os.WriteFile(filepath.Join(w.dir, treeName), w.entries().Tree().Encode(), 0o644); err != nil {
		return layers.Layer{}, err
	}
	return m.Layer, w.s.placeLayer(w.dir, m, nil)
}

// placeLayer completes the folder dir, which holds forms already, and gives it
// its final name. There is no such layer, and the caller holds its lock unless its
// ID is new. t is nil where the table of contents comes later or is there already.
func (s *Store) placeLayer(dir string, m meta, t *layers.Tree) error {
	id := m.Layer.ID
	if t != nil {
		if err := os.WriteFile(filepath.Join(dir, treeName), t.Encode(), 0o644); err != nil {
			return err
		}
	}
	data, err := marshalMeta(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, metaName), data, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	done, err := s.writing(id)
	if err != nil {
		return err
	}
	defer done()
	final := filepath.Join(s.root, "layers", string(id))
	if err := os.Rename(dir, final); err != nil {
		return err
	}
	s.dirs.moved(dir, final)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metas[id] = m
	if t != nil {
		s.keepTree(id, t)
	}
	return nil
}

// merge adds to a layer that is there the forms that it does not have.
func (w *Writer) merge(old, m meta) (layers.Layer, error) {
	id := m.Layer.ID
	done, err := w.s.writing(id)
	if err != nil {
		return layers.Layer{}, err
	}
	defer done()
	if err := w.addForms(id); err != nil {
		return layers.Layer{}, err
	}
	if _, err := w.s.tree(id); errors.Is(err, fs.ErrNotExist) {
		if err := w.s.putEncoded(id, w.entries().Tree()); err != nil {
			return layers.Layer{}, err
		}
	}
	if old.Layer.Descriptor.Digest != "" || m.Layer.Descriptor.Digest == "" {
		return old.Layer, nil
	}
	old.Layer.Descriptor, old.Chunks, old.Kind, old.Level = m.Layer.Descriptor, m.Chunks, m.Kind, m.Level
	return old.Layer, w.s.putMeta(old)
}

// addForms gives a layer that is there the forms that were made for this one.
func (w *Writer) addForms(id layers.ID) error {
	to := w.s.layerPath(id, tarName)
	if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) && w.tar != nil && w.forms.Tar {
		err = os.Rename(w.tar.Name(), to)
		if err != nil {
			return err
		}
	}
	made := filepath.Join(w.dir, w.s.dirName())
	if here, err := w.s.isMade(made); err != nil || !here {
		return err
	}
	return w.s.keepDir(w.ctx, id, made, w.s.layerPath(id, w.s.dirName()))
}

func removeIfThere(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
