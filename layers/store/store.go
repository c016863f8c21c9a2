// Package store keeps blobs and layers in one folder, which is an OCI image
// layout with a few folders beside it, and makes the forms of a layer (blob,
// tar, tree, directory) when somebody needs them.
//
// The invariant: what stands under its final name is complete. Everything is
// written under a temporary name and renamed; any process may be killed at any
// moment, and many share one folder. The package does not know images, steps or
// registries: a blob that is not there comes from Options.Fetch.
package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
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

// Store is a folder of blobs and layers. It is safe for concurrent use.
type Store struct {
	root string
	opt  Options
	// tmp is this process's own temporary folder, locked by own as long as
	// the process lives. A store that can only be read has none: own is nil.
	tmp string
	own *os.File

	mu    sync.Mutex
	metas map[layers.ID]meta
	trees map[layers.ID]*layers.Tree
	views views
	tars  map[layers.ID]*openTar
	// retired are tars of layers that were replaced or removed: somebody may be
	// reading them, so they are closed with the store.
	retired []*openTar

	dirs   dirs
	disk   durability
	claims claims
}

// Open makes the folders below root and removes what dead processes left.
func Open(root string, opt Options) (*Store, error) {
	if opt.Warn == nil {
		opt.Warn = func(string) {}
	}
	if opt.Context == nil {
		opt.Context = context.Background()
	}
	s := &Store{
		root: root, opt: opt,
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

// openForWriting makes what is needed to keep anything, and removes leftovers.
func (s *Store) openForWriting() error {
	if err := makeFolders(s.root); err != nil {
		return fmt.Errorf("making the store: %w", err)
	}
	if err := s.removeLeftovers(); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if err := s.ownTemp(); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	return nil
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

// readOnly reports whether nothing can be written.
func (s *Store) readOnly() bool { return s.own == nil }

// makeFolders makes those that are missing. A new store is its owner's alone.
func makeFolders(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "blobs/sha256"), 0o755); err != nil {
		return err
	}
	for _, dir := range []string{"tmp", "locks", "layers"} {
		if err := hostfile.Private(filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	return nil
}

// Root is the store's folder.
func (s *Store) Root() string { return s.root }

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

// Temp is this process's own folder for temporary files.
func (s *Store) Temp() string { return s.tmp }

// TempDir makes a directory that goes with this process at the latest. It lies
// on the file system of the store, so what is in it can be renamed into place.
func (s *Store) TempDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp(s.tmp, pattern)
	if err != nil {
		return "", fmt.Errorf("making a temporary directory: %w", err)
	}
	return dir, nil
}

// RemoveTemp removes what TempDir made, before this process ends. When the process is
// told to end, a large part may be left to the next one: see removeLeftovers.
func (s *Store) RemoveTemp(dir string) error {
	err := removeAll(s.opt.Context, dir)
	if err != nil && s.opt.Context.Err() != nil {
		return nil
	}
	return err
}

// lockName is the file in a temporary folder that its process holds locked, and in
// which it has its claims.
const lockName = "lock"

// newPrefix begins the name of a temporary folder that is not locked yet.
const newPrefix = ".new-"

// ownTemp makes this process's temporary folder. The folder gets its final name
// when it is locked, so no other process can take it for a dead one's.
func (s *Store) ownTemp() error {
	making, err := hostfile.LockDir(filepath.Join(s.root, "tmp"), hostfile.Shared)
	if err != nil {
		return err
	}
	defer making.Close()
	dir, err := os.MkdirTemp(filepath.Join(s.root, "tmp"), newPrefix+claimsPrefix)
	if err != nil {
		return err
	}
	f, err := hostfile.Lock(context.Background(), filepath.Join(dir, lockName), "the temporary folder", hostfile.Exclusive)
	if err != nil {
		return err
	}
	if err := s.openClaims(); err != nil {
		return errors.Join(err, f.Close())
	}
	final := filepath.Join(filepath.Dir(dir), strings.TrimPrefix(filepath.Base(dir), newPrefix))
	if err := os.Rename(dir, final); err != nil {
		return errors.Join(err, f.Close(), s.claims.gate.Close())
	}
	s.tmp, s.own = final, f
	return nil
}

func (s *Store) removeOwnTemp() error {
	if s.readOnly() {
		return s.claims.close()
	}
	return errors.Join(s.RemoveTemp(s.tmp), s.own.Close(), s.claims.close())
}

// removeLeftovers removes what dead processes left in tmp/: their folders, which
// nobody holds locked, and what was only begun: new folders and single files, with
// which the living hold tmp/ itself. Files of other users, which only a user
// namespace can remove, stay for a process in one.
func (s *Store) removeLeftovers() error {
	tmp := filepath.Join(s.root, "tmp")
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	var dead, begun []string
	for _, e := range entries {
		path := filepath.Join(tmp, e.Name())
		switch {
		case !e.IsDir(), strings.HasPrefix(e.Name(), newPrefix):
			begun = append(begun, path)
		case isDead(path):
			dead = append(dead, path)
		}
	}
	if len(begun) > 0 {
		alone, err := hostfile.TryLockDir(tmp, hostfile.Exclusive)
		if err == nil {
			defer alone.Close()
			dead = append(dead, begun...)
		} else if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
	}
	for _, path := range dead {
		if err := folder.RemoveAll(s.opt.Context, path); err != nil && !hostfile.IsReadOnly(err) {
			return err
		}
	}
	return nil
}

// isDead reports whether the process of a temporary folder has ended. Each has a
// lock, unless a process was killed while it removed the folder.
func isDead(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// bootID names the time since the machine was started.
func bootID() string { return bootIDOf("/proc/sys/kernel/random/boot_id") }

func bootIDOf(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		// Not the same one for all: what was written before the machine last
		// went down would count as on disk.
		return "unknown-" + rand.Text()
	}
	return strings.TrimSpace(string(b))
}
