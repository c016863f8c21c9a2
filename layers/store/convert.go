package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
)

// ConvertOptions says how the blob of a layer shall be.
type ConvertOptions struct {
	Compression archive.Compression
	// Force wants the compression also of a blob that was made elsewhere;
	// otherwise such a blob stays as it is.
	Force bool
	// Epoch says what becomes of the times of files; nil leaves them as they
	// are.
	Epoch *layers.Epoch
}

// variant is another blob of the files of a layer.
type variant struct {
	DiffID     digest.Digest      `json:"diffID"`
	Descriptor ocispec.Descriptor `json:"descriptor"`
}

func (v variant) of(l layers.Layer) layers.Layer {
	// Where the layer came from, this blob is not.
	l.DiffID, l.Descriptor, l.Origins = v.DiffID, v.Descriptor, nil
	return l
}

// name is what a layer remembers the variant under.
func (w ConvertOptions) name() string {
	if w.Epoch == nil {
		return w.Compression.String()
	}
	what := " not after "
	if w.Epoch.Keep {
		what = " made at "
	}
	return w.Compression.String() + what + strconv.FormatInt(w.Epoch.Seconds, 10)
}

// Convert returns the layer with a blob that is as wanted: with the descriptor
// of another blob of the same files and, when the epoch changes the time of
// some, another diff ID. Its bytes are those that a Packer would have written
// at once, whatever blob there was before. The layer in the store keeps the blob
// that it has; the others that were made are remembered and used again while
// they are there.
func (s *Store) Convert(ctx context.Context, l layers.Layer, w ConvertOptions) (layers.Layer, error) {
	l = s.asMade(l)
	w, err := s.needed(ctx, l, w)
	if err != nil {
		return l, err
	}
	// With other times the layer's own blob is wanted by nobody.
	if l.Descriptor.Digest == "" && w.Epoch == nil {
		if l, err = s.Pack(ctx, l, w.Compression); err != nil {
			return l, err
		}
	}
	if done, ok := s.converted(l, w); ok {
		return done, nil
	}
	unlock, err := s.Lock(ctx, "convert-"+string(l.ID), "layer "+string(l.ID)+", which is being converted elsewhere")
	if err != nil {
		return l, err
	}
	defer unlock()
	// Another process may have done it.
	s.reread(l.ID)
	if done, ok := s.converted(l, w); ok {
		return done, nil
	}
	v, err := s.convert(ctx, l, w)
	if err != nil {
		return l, fmt.Errorf("converting layer %s to %s: %w", l.ID, w.name(), err)
	}
	return v.of(l), s.remember(ctx, l.ID, w, v)
}

// needed is w without what changes nothing.
func (s *Store) needed(ctx context.Context, l layers.Layer, w ConvertOptions) (ConvertOptions, error) {
	w.Compression = w.Compression.Canonical()
	if w.Epoch == nil {
		return w, nil
	}
	t, err := s.Tree(ctx, l)
	if err != nil {
		return w, err
	}
	var none *layers.Epoch
	changes := func(e layers.Entry) bool { return w.Epoch.Apply(e.ModTime) != none.Apply(e.ModTime) }
	if !slices.ContainsFunc(t.Entries, changes) {
		w.Epoch = nil
	}
	return w, nil
}

// Convertible reports whether Convert needs no directory form of the layer: its
// files may be readable by nobody but those whom they belong to.
func (s *Store) Convertible(ctx context.Context, l layers.Layer, w ConvertOptions) (bool, error) {
	if l.Descriptor.Digest != "" {
		return true, nil
	}
	if _, err := os.Stat(s.layerPath(l.ID, tarName)); err == nil {
		return true, nil
	}
	w, err := s.needed(ctx, l, w)
	if err != nil {
		return false, err
	}
	_, done := s.converted(l, w)
	return done && w.Epoch != nil, nil
}

// asMade returns a layer that was made here with the blob that the store has of it,
// rather than a variant.
func (s *Store) asMade(l layers.Layer) layers.Layer {
	m, err := s.meta(l.ID)
	if err != nil || !m.madeHere() {
		return l
	}
	return m.Layer
}

// converted returns the layer when a blob as wanted is there, or none has to be
// made.
func (s *Store) converted(l layers.Layer, w ConvertOptions) (layers.Layer, bool) {
	m, err := s.meta(l.ID)
	if err != nil {
		m = meta{Layer: l}
	}
	if w.Epoch == nil && m.suffices(l, w) {
		return l, true
	}
	if v, ok := m.Variants[w.name()]; ok && s.Blobs.whole(v.Descriptor) {
		return v.of(l), true
	}
	return l, false
}

// suffices reports whether the layer's own blob is as wanted. Of one that was made
// elsewhere the level is not known.
func (m meta) suffices(l layers.Layer, w ConvertOptions) bool {
	switch {
	case m.describes(l):
		return m.Kind == w.Compression.Type && m.Level == w.Compression.Level
	case !w.Force:
		return true
	}
	return l.Descriptor.MediaType == w.Compression.MediaType() && w.Compression.Level == 0
}

// describes reports whether the blob of l was made here and m knows how.
func (m meta) describes(l layers.Layer) bool {
	return m.madeHere() && m.Layer.Descriptor.Digest == l.Descriptor.Digest
}

func (s *Store) convert(ctx context.Context, l layers.Layer, w ConvertOptions) (v variant, err error) {
	err = s.Blobs.Create(func(f io.Writer) (digest.Digest, error) {
		p, err := s.convertTo(ctx, l, f, w)
		v.DiffID = p.DiffID
		v.Descriptor = ocispec.Descriptor{MediaType: w.Compression.MediaType(), Digest: p.Digest, Size: p.Size}
		switch {
		case err != nil || w.Epoch != nil || p.DiffID == l.DiffID:
			return p.Digest, err
		case l.ID.IsBase():
			return "", ofLayer(l, checkDiffID(l, p.DiffID))
		}
		return "", folder.ErrCorrupt
	})
	return v, err
}

// convertTo writes a blob as wanted.
func (s *Store) convertTo(ctx context.Context, l layers.Layer, blob io.Writer, w ConvertOptions) (p archive.Packed, err error) {
	if w.Epoch != nil {
		return s.packTree(ctx, l, blob, w)
	}
	pack := func(tar io.Reader) (archive.Packed, error) { return archive.Recompress(ctx, tar, blob, w.Compression) }
	if m, err := s.meta(l.ID); err == nil && m.describes(l) {
		t, err := s.tree(l.ID)
		if err != nil {
			return p, err
		}
		pack = func(tar io.Reader) (archive.Packed, error) { return archive.Repack(ctx, tar, t, blob, w.Compression) }
	}
	err = s.inflating(ctx, l, func(tar io.Reader) (err error) {
		p, err = pack(bufio.NewReaderSize(tar, 1<<20))
		return err
	})
	return p, err
}

// packTree writes a blob of the layer's files, from whatever form there is.
func (s *Store) packTree(ctx context.Context, l layers.Layer, blob io.Writer, w ConvertOptions) (archive.Packed, error) {
	t, err := s.Tree(ctx, l)
	if err != nil {
		return archive.Packed{}, err
	}
	p := archive.NewPacker(blob, w.Compression, nil, w.Epoch)
	defer p.Abort()
	for _, e := range t.Entries {
		open := func() (io.ReadCloser, error) { return s.OpenUnverified(ctx, l, e) }
		if err := archive.Add(ctx, p, e, open); err != nil {
			return archive.Packed{}, err
		}
	}
	return p.Close()
}

// remember notes a variant. A layer that the store has only as a blob cannot
// remember it.
func (s *Store) remember(ctx context.Context, id layers.ID, w ConvertOptions, v variant) error {
	unlock, err := s.lockLayer(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := s.readMeta(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	known := map[string]variant{}
	for name, old := range m.Variants {
		// What was collected is forgotten.
		if s.Blobs.whole(old.Descriptor) {
			known[name] = old
		}
	}
	known[w.name()] = v
	m.Variants = known
	done, err := s.writing(id)
	if err != nil {
		return err
	}
	defer done()
	return s.putMeta(m)
}
