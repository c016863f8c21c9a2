package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// CommitUpper makes the upper directory of an overlay, in which a command ran on top
// of the chain lower, a layer: it is renamed, not copied. Of what was copied up
// and not changed the layer's tree does not tell. When nothing else is there,
// and the command gave the root no other owner (nil), changed is false and there
// is no new layer.
func (s *Store) CommitUpper(ctx context.Context, upper string, lower layers.Chain, owner *layers.Owner, created time.Time) (l layers.Layer, changed bool, err error) {
	below, err := s.View(ctx, lower)
	if err != nil {
		return l, false, err
	}
	open := func(layer int, e layers.Entry) (io.ReadCloser, error) {
		return s.OpenFile(ctx, lower[layer], e)
	}
	t, err := archive.WalkUpper(ctx, upper, below, open)
	if err != nil {
		return l, false, err
	}
	if len(t.Entries) == 0 && owner == nil {
		return l, false, s.RemoveTemp(upper)
	}
	id, err := randomID()
	if err != nil {
		return l, false, err
	}
	dir, err := s.TempDir("layer-")
	if err != nil {
		return l, false, err
	}
	form := filepath.Join(dir, s.dirName())
	if err := s.keepDir(ctx, id, upper, form); err != nil {
		return l, false, fmt.Errorf("keeping a layer: %w", err)
	}
	m := meta{Layer: layers.Layer{ID: id, Created: created, RootOwner: owner}}
	if err := s.placeLayer(dir, m, t); err != nil {
		return l, false, fmt.Errorf("keeping a layer: %w", err)
	}
	return m.Layer, true, nil
}

// randomID names a layer whose bytes are not known yet.
func randomID() (layers.ID, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return layers.ID("run-" + hex.EncodeToString(b[:])), nil
}
