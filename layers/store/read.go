package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// openTar is a layer's uncompressed tar, kept as such or inside its blob.
type openTar struct {
	*archive.Tar
	file *os.File
}

func (t *openTar) close() error { return errors.Join(t.Tar.Close(), t.file.Close()) }

// OpenFile returns the content of a regular file of a layer, from whatever form
// there is. It fails at its end when the content is not what e.Sum says, and when
// ctx ends.
func (s *Store) OpenFile(ctx context.Context, l layers.Layer, e layers.Entry) (io.ReadCloser, error) {
	r, err := s.OpenUnverified(ctx, l, e)
	if err != nil {
		return nil, err
	}
	return archive.Verified(r, archive.ContentOf(e)), nil
}

// OpenUnverified is OpenFile for those who compare the content with e.Sum themselves:
// archive.Unpack, and everything that writes entries.
func (s *Store) OpenUnverified(ctx context.Context, l layers.Layer, e layers.Entry) (io.ReadCloser, error) {
	r, err := s.openFile(ctx, l, e)
	if err != nil {
		return nil, fmt.Errorf("layer %s: file %q: %w", l.ID, e.Path, err)
	}
	return archive.ContextReadCloser(ctx, r), nil
}

func (s *Store) openFile(ctx context.Context, l layers.Layer, e layers.Entry) (io.ReadCloser, error) {
	r, err := s.openForm(l.ID, e)
	if lost := errors.Is(err, ErrNoForm) || errors.Is(err, ErrChanged); !lost || e.Place == 0 {
		return r, err
	}
	// Only its description is left: the blob is got and inflated again.
	unlock, err := s.lockLayer(ctx, l.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Another goroutine may have done it.
	r, err = s.openForm(l.ID, e)
	if lost := errors.Is(err, ErrNoForm) || errors.Is(err, ErrChanged); !lost {
		return r, err
	}
	if err := s.inflate(ctx, l); err != nil {
		return nil, err
	}
	t, err := s.openTar(l.ID)
	if err != nil {
		return nil, err
	}
	return t.Content(e)
}

// openForm opens a regular file in one of the layer's forms; ErrNoForm when there
// is none to read it from.
func (s *Store) openForm(id layers.ID, e layers.Entry) (io.ReadCloser, error) {
	if e.Kind != layers.File {
		return nil, errors.New("not a regular file")
	}
	// The tar comes first: a plain user may not be allowed to read the
	// files of others in the directory.
	if e.Place != 0 {
		t, err := s.openTar(id)
		if err == nil {
			return t.Content(e)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	dir, ok, err := s.dirOf(id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNoForm
	}
	return s.openStored(dir, e)
}

// openTar returns the layer's tar; fs.ErrNotExist when it is in no form that
// can be read at random.
func (s *Store) openTar(id layers.ID) (*openTar, error) {
	s.mu.Lock()
	t, ok := s.tars[id]
	s.mu.Unlock()
	if ok {
		return t, nil
	}
	t, err := openTarFile(s.layerPath(id, tarName), archive.Uncompressed, nil)
	if errors.Is(err, fs.ErrNotExist) {
		t, err = s.openBlobTar(id)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.tars[id]; ok { // somebody else was faster
		return first, t.close()
	}
	s.tars[id] = t
	return t, nil
}

// openBlobTar opens the tar inside the layer's blob.
func (s *Store) openBlobTar(id layers.ID) (*openTar, error) {
	m, err := s.meta(id)
	if err != nil {
		return nil, err
	}
	if m.Layer.Descriptor.Digest == "" || m.Kind == "" || !s.Blobs.whole(m.Layer.Descriptor) {
		return nil, fs.ErrNotExist
	}
	return openTarFile(s.blobPath(m.Layer.Descriptor.Digest), m.Kind, m.Chunks)
}

func openTarFile(path, kind string, chunks []archive.Chunk) (*openTar, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	t, err := archive.OpenChunked(f, info.Size(), kind, chunks)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &openTar{Tar: t, file: f}, nil
}

// openBelow opens a regular file below root without following any symlink.
func openBelow(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), strings.TrimSuffix(root, "/")+"/"+path), nil
}

// Digest returns the digest of a regular file's content, reading it when the
// tree does not know.
func (s *Store) Digest(ctx context.Context, l layers.Layer, e layers.Entry) (digest.Digest, error) {
	if e.Sum.Known() {
		return e.Sum.Digest(), nil
	}
	r, err := s.OpenFile(ctx, l, e)
	if err != nil {
		return "", err
	}
	defer r.Close()
	d, err := digest.FromReader(r)
	if err != nil {
		return "", fmt.Errorf("layer %s: file %q: %w", l.ID, e.Path, err)
	}
	return d, nil
}
