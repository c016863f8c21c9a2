package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
)

// The files of one layer, below layers/<id>/.
const (
	metaName    = "layer.json" // what the layer is, sealed
	treeName    = "tree"       // its table of contents
	tarName     = "tar"        // uncompressed
	dirName     = "fs"         // as a directory
	oneUserName = "fs-oneuser" // as a directory in which one user owns everything
)

// meta is what layer.json holds.
type meta struct {
	Layer layers.Layer `json:"layer"`
	// Chunks are those of the blob that Layer.Descriptor describes; without
	// them the blob can only be read from its beginning.
	Chunks []archive.Chunk `json:"chunks,omitempty"`
	// Kind is the compression of that blob, for Chunks.
	Kind string `json:"kind,omitempty"`
	// Level is the level of that compression; 0 is its default.
	Level int `json:"level,omitempty"`
	// Variants are other blobs that were made of the layer: see Convert.
	Variants map[string]variant `json:"variants,omitempty"`
	// Verified says of an image's layer that its blob was inflated and has the
	// diff ID that the image claims. A table of contents says so as well.
	Verified bool `json:"verified,omitempty"`
}

// madeHere reports whether the blob is one of ours, so that it is known how it
// was compressed.
func (m meta) madeHere() bool { return m.Kind != "" && !m.Layer.ID.IsBase() }

// dirName is how this process calls the directories that it makes of layers: where
// it can make files of one user only, they serve no other process.
func (s *Store) dirName() string {
	if s.opt.SingleUser {
		return oneUserName
	}
	return dirName
}

// dirOf returns a directory form of a layer to read files from, if there is one
// that was made here: the contents are the same in both.
func (s *Store) dirOf(id layers.ID) (path string, ok bool, err error) {
	for _, name := range []string{s.dirName(), dirName, oneUserName} {
		path = s.layerPath(id, name)
		if made, err := s.isMade(path); err != nil || made {
			return path, made, err
		}
	}
	return "", false, nil
}

func (s *shelf) layerPath(id layers.ID, name string) string {
	return filepath.Join(s.root, "layers", string(id), name)
}

// Get returns what is known of a layer. It fails with fs.ErrNotExist when there
// is none; a damaged one counts as none.
func (s *Store) Get(id layers.ID) (layers.Layer, error) {
	m, err := s.meta(id)
	return m.Layer, err
}

func (s *Store) meta(id layers.ID) (meta, error) {
	s.mu.Lock()
	m, ok := s.metas[id]
	s.mu.Unlock()
	if ok {
		return m, nil
	}
	err := s.Claim(LayerPart(id))
	if err == nil {
		m, err = s.readMeta(id)
	}
	if err != nil {
		return meta{}, fmt.Errorf("layer %s: %w", id, err)
	}
	s.mu.Lock()
	s.metas[id] = m
	s.mu.Unlock()
	return m, nil
}

func (s *Store) readMeta(id layers.ID) (meta, error) {
	m, err := s.decodeMeta(id)
	if err != nil {
		return m, err
	}
	if m.isFormerClaim() {
		return meta{}, fs.ErrNotExist
	}
	if s.isLost(id) {
		return meta{}, fs.ErrNotExist
	}
	return m, nil
}

// decodeMeta reads layer.json, whatever it says.
func (s *Store) decodeMeta(id layers.ID) (meta, error) {
	var m meta
	if id == "" || filepath.Base(string(id)) != string(id) {
		return m, fs.ErrNotExist
	}
	data, err := os.ReadFile(s.layerPath(id, metaName))
	if err != nil {
		return m, err
	}
	payload, err := folder.Unseal(data)
	if err == nil {
		err = json.Unmarshal(payload, &m)
	}
	if err == nil && (m.Layer.ID != id || id.IsBase() && id != layers.BaseID(m.Layer.Descriptor, m.Layer.DiffID)) {
		err = errors.New("it is about another layer")
	}
	if err != nil {
		s.opt.Warn(fmt.Sprintf("layer %s is damaged and will be made again: %v", id, err))
		return meta{}, fs.ErrNotExist
	}
	return m, nil
}

func marshalMeta(m meta) ([]byte, error) {
	data, err := json.Marshal(m)
	return folder.Seal(data), err
}

// putMeta writes layer.json. The caller holds the layer's lock.
func (s *Store) putMeta(m meta) error {
	data, err := marshalMeta(m)
	if err != nil {
		return err
	}
	if err := s.writeFile(s.layerPath(m.Layer.ID, metaName), data); err != nil {
		return fmt.Errorf("layer %s: %w", m.Layer.ID, err)
	}
	s.mu.Lock()
	s.metas[m.Layer.ID] = m
	s.mu.Unlock()
	return nil
}

// lockLayer claims a layer and lets one at a time change what stands of it.
func (s *Store) lockLayer(ctx context.Context, id layers.ID) (func(), error) {
	if err := s.Claim(LayerPart(id)); err != nil {
		return nil, err
	}
	unlock, err := s.Lock(ctx, "layer-"+string(id), "layer "+string(id)+", which is in use elsewhere")
	if err != nil {
		return nil, fmt.Errorf("locking layer %s: %w", id, err)
	}
	return unlock, nil
}

// replace takes a layer that is damaged out of the way of a new one. The caller holds
// the layer's lock; others may be using it.
func (s *Store) replace(id layers.ID) error {
	s.forget(id)
	if err := s.setAside(id, filepath.Join(s.root, "layers", string(id))); err != nil {
		return fmt.Errorf("replacing layer %s: %w", id, err)
	}
	return s.unmark(id)
}

// forget drops what is kept in memory of a layer.
func (s *Store) forget(id layers.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.metas, id)
	s.keepTree(id, nil)
	s.dirs.forget(s.layerPath(id, "") + "/")
	if t, ok := s.tars[id]; ok {
		s.retired = append(s.retired, t)
		delete(s.tars, id)
	}
}

// reread has what is written of a layer read again when it is next asked for:
// another process may have changed it.
func (s *Store) reread(id layers.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.metas, id)
}
