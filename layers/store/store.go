// Package store keeps blobs and layers in one folder, which is an OCI image
// layout with a few folders beside it. Blobs keep content under its digest. A Store
// makes the forms of a layer (blob, tar, tree, directory) when somebody needs them.
//
// The invariant: what stands under its final name is complete. Everything is
// written under a temporary name and renamed; any process may be killed at any
// moment, and many share one folder. The package does not know images, steps or
// registries: a blob that is not there comes from Options.Fetch.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Options say what a store can do beside keeping.
type Options struct {
	// Fetch gets the blob of a layer that is not on disk. What it returns
	// is verified here. Without it such a layer cannot be used.
	Fetch func(ctx context.Context, l layers.Layer) (io.ReadCloser, error)
	// SingleUser says that files can only be made for one user (a user
	// namespace that maps one ID).
	SingleUser bool
	// IDs describes the user and group IDs of this process. A directory that was made
	// with others counts as missing. Empty in a process that makes no directories and
	// reads no files of other users in them: there all count.
	IDs string
	// Warn gets a line about what was damaged and is made again.
	Warn func(string)
	// Context ends waits for others who remove parts of the store, and says how
	// they are told of; nil is context.Background(). It is the program's and no
	// argument, since any look into the store claims what it finds (Claim) and may
	// have to wait so, also those that otherwise wait for nothing.
	Context context.Context
	// Read says that nothing new is going to be kept: a store that cannot be
	// written to will do.
	Read bool
}

// Store is a folder of layers, with their Blobs. It is safe for concurrent use.
type Store struct {
	*shelf
	// Blobs are the contents that have a digest, of layers and others.
	Blobs *Blobs
	// LookOnly says that what is found to be changed is left as it is.
	LookOnly bool

	mu    sync.Mutex
	metas map[layers.ID]meta
	trees map[layers.ID]*layers.Tree
	views views
	tars  map[layers.ID]*openTar
	// retired are tars of layers that were replaced or removed: somebody may be
	// reading them, so they are closed with the store.
	retired []*openTar

	dirs dirs
}

// Open makes the folders below root and removes what dead processes left.
func Open(root string, opt Options) (*Store, error) {
	if opt.Warn == nil {
		opt.Warn = func(string) {}
	}
	if opt.Context == nil {
		opt.Context = context.Background()
	}
	shelf := &shelf{root: root, opt: opt}
	s := &Store{
		shelf: shelf, Blobs: &Blobs{shelf},
		metas: map[layers.ID]meta{}, trees: map[layers.ID]*layers.Tree{}, tars: map[layers.ID]*openTar{},
		dirs: dirs{known: map[string]*knownDir{}},
	}
	err := s.openForWriting()
	if hostfile.IsReadOnly(err) && isDir(root) {
		err = &ReadOnlyError{Root: root, Err: err}
		if opt.Read {
			s.tmp, err = filepath.Join(root, "tmp"), s.claimNothing()
		}
	}
	if err != nil {
		return nil, err
	}
	if err := s.openDurability(); err != nil {
		return nil, fmt.Errorf("opening the store: %w", errors.Join(err, s.removeOwnTemp()))
	}
	return s, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// CheckWritable fails with a *ReadOnlyError when the store at root is there and cannot
// be written to, and with the reason when a folder is there in which none can be made.
func CheckWritable(root string) error {
	dir := filepath.Join(root, "tmp")
	err := unix.Access(dir, unix.W_OK)
	switch {
	case hostfile.IsReadOnly(err):
		return &ReadOnlyError{Root: root, Err: &fs.PathError{Op: "writing to", Path: dir, Err: err}}
	case errors.Is(err, fs.ErrNotExist):
		if err := unix.Access(root, unix.W_OK); hostfile.IsReadOnly(err) {
			return &fs.PathError{Op: "writing to", Path: root, Err: err}
		}
	}
	return nil
}

// A ReadOnlyError is a store in which something was to be written that this user can
// only read.
type ReadOnlyError struct {
	Root string
	Err  error
}

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("the store %s can only be read here: %v", e.Root, e.Err)
}

// Unwrap returns the reason.
func (e *ReadOnlyError) Unwrap() error { return e.Err }

// HintText says what is possible.
func (e *ReadOnlyError) HintText() string {
	return "its images can be listed, inspected, saved and pushed; for anything else make it writable, or name another store with --root DIR or SINTER_ROOT"
}

// Close makes the new layers durable and removes this process's temporary
// files. Nothing of the store may be in use any more.
func (s *Store) Close() error { return s.release(s.closeDurability()) }

// Leave is Close for a process that was told to end: it does not wait until the disk
// has what is new. The marks of that stay, as after a kill.
func (s *Store) Leave() error { return s.release(s.disk.fs.Close()) }

// release frees all that an open store holds; err is what has failed so far.
func (s *Store) release(err error) error {
	s.mu.Lock()
	for _, t := range slices.AppendSeq(s.retired, maps.Values(s.tars)) {
		err = errors.Join(err, t.close())
	}
	s.retired = nil
	clear(s.tars)
	s.mu.Unlock()
	return errors.Join(err, s.removeOwnTemp())
}
