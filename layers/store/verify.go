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

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// Problem is something in the store that is not as it must be.
type Problem struct {
	// Path of what is wrong, below the store's folder.
	Path string
	// Text says what is wrong with it.
	Text string
	// Blob or Layer is what has to go.
	Blob  digest.Digest
	Layer layers.ID
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// Repair removes what is wrong, so that it is made or got again when it is
// needed. Nobody else may use the store meanwhile.
func (s *Store) Repair(p Problem) error {
	if p.Blob != "" {
		return s.RemoveBlob(p.Blob)
	}
	return s.RemoveLayer(p.Layer)
}

// Verify reads everything and reports what does not match its digest or is
// torn.
func (s *Store) Verify(ctx context.Context) ([]Problem, error) {
	var problems []Problem
	report := func(p Problem) {
		if rel, err := filepath.Rel(s.root, p.Path); err == nil {
			p.Path = rel
		}
		problems = append(problems, p)
	}
	blobs, err := s.Blobs()
	if err != nil {
		return nil, err
	}
	for _, b := range blobs {
		err := verifyFile(ctx, s.blobPath(b.Digest), ocispec.Descriptor{Digest: b.Digest, Size: b.Size})
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			report(Problem{Path: s.blobPath(b.Digest), Text: err.Error(), Blob: b.Digest})
		}
	}
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := s.verifyLayer(ctx, id); err != nil {
			report(Problem{Path: s.layerPath(id, ""), Text: err.Error(), Layer: id})
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return problems, nil
}

func verifyFile(ctx context.Context, path string, want ocispec.Descriptor) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, archive.ContextReader(ctx, verify(want, f)))
	return err
}

func (s *Store) verifyLayer(ctx context.Context, id layers.ID) error {
	m, err := s.readMeta(id)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("its description is missing or damaged; it will be made again when it is needed")
	}
	if err != nil {
		return err
	}
	l := m.Layer
	data, err := os.ReadFile(s.layerPath(id, treeName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Nobody has wanted it yet: the blob is enough to make it of.
		if l.Descriptor.Digest == "" || !s.whole(l.Descriptor) && len(l.Origins) == 0 {
			return errors.New("it has no table of contents")
		}
		return nil
	case err != nil:
		return err
	}
	t, err := layers.DecodeTree(data)
	if err != nil {
		return err
	}
	there := false
	if tar, err := os.Stat(s.layerPath(id, tarName)); err == nil && l.DiffID != "" {
		want := ocispec.Descriptor{Digest: l.DiffID, Size: tar.Size()}
		if err := verifyFile(ctx, s.layerPath(id, tarName), want); err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		there = true
	}
	if dir, ok := s.dirOf(id); ok {
		return verifyDir(ctx, dir, t)
	}
	if there || l.Descriptor.Digest != "" && (s.whole(l.Descriptor) || len(l.Origins) > 0) {
		return nil
	}
	return errors.New("it has no content: no blob, no tar, no directory")
}

// verifyDir compares the files of a directory with the digests that the tree
// has.
func verifyDir(ctx context.Context, dir string, t *layers.Tree) error {
	for _, e := range t.Entries {
		if e.Kind != layers.File {
			continue
		}
		f, err := openBelow(dir, e.Path)
		if err != nil {
			return fmt.Errorf("file %q: %w", e.Path, err)
		}
		var r io.Reader = f
		if e.Digest != "" {
			r = verify(ocispec.Descriptor{Digest: e.Digest, Size: e.Size}, f)
		}
		n, err := io.Copy(io.Discard, archive.ContextReader(ctx, r))
		err = errors.Join(err, f.Close())
		if err == nil && n != e.Size {
			err = fmt.Errorf("it has %d bytes, not %d", n, e.Size)
		}
		if err != nil {
			return fmt.Errorf("file %q: %w", e.Path, err)
		}
	}
	return nil
}

// LayerUsage is the room that a layer's own folder takes.
type LayerUsage struct {
	Layer layers.Layer
	// Size is in bytes, of all forms but the blob.
	Size int64
	// Used is when one of its forms was made.
	Used time.Time
	// Variants are the diff IDs that the layer has in images which wanted
	// other times of its files.
	Variants []digest.Digest
}

// BlobUsage is the room that a blob takes.
type BlobUsage struct {
	Digest digest.Digest
	Size   int64
	Made   time.Time
}

// IDs returns the names of all layers.
func (s *Store) IDs() ([]layers.ID, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "layers"))
	if err != nil {
		return nil, err
	}
	ids := make([]layers.ID, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, layers.ID(e.Name()))
	}
	return ids, nil
}

// Blobs returns all blobs on disk.
func (s *Store) Blobs() ([]BlobUsage, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "blobs", string(digest.SHA256)))
	if err != nil {
		return nil, err
	}
	var blobs []BlobUsage
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		info, err := e.Info()
		if d.Validate() != nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, BlobUsage{Digest: d, Size: info.Size(), Made: info.ModTime()})
	}
	return blobs, nil
}

// Usage returns the room that each layer takes, in no order.
func (s *Store) Usage() ([]LayerUsage, error) {
	ids, err := s.IDs()
	if err != nil {
		return nil, err
	}
	usage := make([]LayerUsage, 0, len(ids))
	for _, id := range ids {
		u := LayerUsage{Layer: layers.Layer{ID: id}}
		if m, err := s.readMeta(id); err == nil {
			u.Layer = m.Layer
			for _, v := range m.Variants {
				if v.DiffID != m.Layer.DiffID {
					u.Variants = append(u.Variants, v.DiffID)
				}
			}
		}
		err := filepath.WalkDir(s.layerPath(id, ""), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				// A plain user may not look into everything.
				if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil
			}
			if d.Type().IsRegular() {
				u.Size += info.Size()
			}
			if filepath.Dir(path) == s.layerPath(id, "") && info.ModTime().After(u.Used) && d.Name() != dirName && d.Name() != oneUserName {
				u.Used = info.ModTime()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		usage = append(usage, u)
	}
	return usage, nil
}
