package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

// ErrDiffID is the fault of an image whose config claims a diff ID for a blob that
// has another.
var ErrDiffID = errors.New("the image's config claims a wrong diff ID")

// checkDiffID compares the digest of an inflated blob with what the image claims.
func checkDiffID(l layers.Layer, got digest.Digest) error {
	if l.DiffID == "" || got == l.DiffID {
		return nil
	}
	return fmt.Errorf("%w: uncompressed its blob %s is %s, not %s", ErrDiffID, l.Descriptor.Digest, got, l.DiffID)
}

// AddRemote notes a layer of an image, of which only the description is known: its blob
// comes when it is needed. Of a layer that is there already, only the origins are
// added.
func (s *Store) AddRemote(ctx context.Context, l layers.Layer) error {
	if l.DiffID == "" || l.Descriptor.Digest == "" || l.ID != layers.BaseID(l.Descriptor, l.DiffID) {
		return errors.New("a layer of an image has a diff ID, a descriptor, and the ID of these")
	}
	if old, err := s.meta(l.ID); err == nil && containsAll(old.Layer.Origins, l.Origins) {
		return nil
	}
	unlock, err := s.lockLayer(ctx, l.ID)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.readMeta(l.ID)
	if err == nil {
		done, err := s.writing(l.ID)
		if err != nil {
			return err
		}
		defer done()
		old.Layer.Origins = union(old.Layer.Origins, l.Origins)
		return s.putMeta(old)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Nothing that is half there may be taken for a part of it.
	if err := s.replace(l.ID); err != nil {
		return err
	}
	dir, err := s.TempDir("layer-")
	if err != nil {
		return err
	}
	l.Origins = union(l.Origins, s.formerOrigins(l))
	m := meta{Layer: l}
	t := s.learnOfOwn(&m)
	return s.placeLayer(dir, m, t)
}

// learnOfOwn gives a new layer of an image, whose blob was made here of a layer of
// the same diff ID, the table of contents of that layer, so that it need not be
// inflated; nil if there is none.
func (s *Store) learnOfOwn(m *meta) *layers.Tree {
	own, err := s.readMeta(layers.ID(m.Layer.DiffID.Encoded()))
	if err != nil || !own.madeHere() || own.Layer.DiffID != m.Layer.DiffID || own.Layer.Descriptor.Digest != m.Layer.Descriptor.Digest {
		return nil // it is inflated when it is needed
	}
	t, err := s.tree(own.Layer.ID)
	if err != nil {
		return nil
	}
	m.Chunks, m.Kind, m.Level, m.Verified = own.Chunks, own.Kind, own.Level, true
	return t
}

// Base returns a layer of an image as it is known, or a description of it where
// no build has used it.
func (s *Store) Base(desc ocispec.Descriptor, diffID digest.Digest) layers.Layer {
	l := layers.Layer{ID: layers.BaseID(desc, diffID), DiffID: diffID, Descriptor: desc}
	if m, err := s.meta(l.ID); err == nil {
		l.Origins = m.Layer.Origins
	} else {
		l.Origins = s.formerOrigins(l)
	}
	return l
}

// isFormerClaim reports whether this is what versions before base layers had names
// of their own noted of an image's layer: under the diff ID that the image claimed,
// where a layer that was made here is looked for.
func (m meta) isFormerClaim() bool {
	return !m.Layer.ID.IsBase() && m.Kind == "" && m.Layer.Descriptor.Digest != ""
}

// formerOrigins are the repositories that such a claim names for the blob of l.
func (s *Store) formerOrigins(l layers.Layer) []string {
	m, err := s.decodeMeta(layers.ID(l.DiffID.Encoded()))
	if err != nil || !m.isFormerClaim() || m.Layer.Descriptor.Digest != l.Descriptor.Digest {
		return nil
	}
	return m.Layer.Origins
}

// CheckDiffID fails with ErrDiffID when the blob of an image's layer has another
// diff ID than the image claims. A blob is inflated for that once; one that is not
// on disk is checked when it comes. Layers that were made here, and those that no
// build has used, are not looked at.
func (s *Store) CheckDiffID(ctx context.Context, l layers.Layer) error {
	if !l.ID.IsBase() || s.verified(l.ID) {
		return nil
	}
	if s.readOnly() {
		return s.checkDiffIDHere(ctx, l)
	}
	unlock, err := s.lockLayer(ctx, l.ID)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := s.readMeta(l.ID)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case m.Verified || !s.Blobs.whole(m.Layer.Descriptor):
		return nil
	}
	if err := s.withSoundBlob(m.Layer, func() error { return s.VerifyDiffID(ctx, m.Layer) }); err != nil {
		return err
	}
	done, err := s.writing(l.ID)
	if err != nil {
		return err
	}
	defer done()
	m.Verified = true
	return s.putMeta(m)
}

// checkDiffIDHere is CheckDiffID for a store that can only be read: the result is
// remembered in memory.
func (s *Store) checkDiffIDHere(ctx context.Context, l layers.Layer) error {
	m, err := s.meta(l.ID)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !s.Blobs.whole(m.Layer.Descriptor) {
		return nil
	}
	if err == nil {
		err = s.VerifyDiffID(ctx, m.Layer)
	}
	if err != nil {
		return err
	}
	m.Verified = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metas[l.ID] = m
	return nil
}

// verified reports whether the blob of an image's layer is known to have the diff
// ID that the image claims.
func (s *Store) verified(id layers.ID) bool {
	if m, err := s.meta(id); err == nil && m.Verified {
		return true
	}
	_, err := os.Lstat(s.layerPath(id, treeName))
	return err == nil
}

// VerifyDiffID inflates the blob of a layer and fails with ErrDiffID when it has
// another diff ID, with folder.ErrCorrupt when it is damaged. Nothing of it is kept.
func (s *Store) VerifyDiffID(ctx context.Context, l layers.Layer) error {
	return ofLayer(l, s.inflating(ctx, l, func(tar io.Reader) error {
		got, err := digest.FromReader(tar)
		if err != nil {
			return err
		}
		return checkDiffID(l, got)
	}))
}

func containsAll(list, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(w string) bool { return !slices.Contains(list, w) })
}

// union returns list with those of more that it does not have.
func union(list, more []string) []string {
	list = slices.Clone(list)
	for _, m := range more {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}
