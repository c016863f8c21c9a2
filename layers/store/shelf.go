package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// shelf is the folder that blobs and layers are in: its locks and temporary files, what
// this process claims in it, and what is not on disk yet.
type shelf struct {
	root string
	opt  Options
	// tmp is this process's own temporary folder, locked by own as long as
	// the process lives. A store that can only be read has none: own is nil.
	tmp string
	own *os.File

	disk   durability
	claims claims
}

// openForWriting makes what is needed to keep anything, and removes leftovers.
func (s *shelf) openForWriting() error {
	if err := CheckFolder(s.root); err != nil {
		return err
	}
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

// readOnly reports whether nothing can be written.
func (s *shelf) readOnly() bool { return s.own == nil }

// makeFolders makes those that are missing. A new store is its owner's alone.
func makeFolders(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, storeFolders[0]), 0o755); err != nil {
		return err
	}
	for _, dir := range storeFolders[1:] {
		if err := hostfile.Private(filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	return nil
}

// Root is the store's folder.
func (s *shelf) Root() string { return s.root }

// Lock takes the named lock, against this process's other goroutines as well
// as other processes. what names for people what they wait for.
func (s *shelf) Lock(ctx context.Context, name, what string) (unlock func(), err error) {
	f, err := hostfile.Lock(ctx, filepath.Join(s.root, "locks", name), what, hostfile.Exclusive)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// writeFile writes data at path by way of a temporary name.
func (s *shelf) writeFile(path string, data []byte) error {
	return folder.WriteFile(filepath.Join(s.tmp, "file-"), path, data, 0o644)
}

// Temp is this process's own folder for temporary files.
func (s *shelf) Temp() string { return s.tmp }

// TempDir makes a directory that goes with this process at the latest. It lies
// on the file system of the store, so what is in it can be renamed into place.
func (s *shelf) TempDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp(s.tmp, pattern)
	if err != nil {
		return "", fmt.Errorf("making a temporary directory: %w", err)
	}
	return dir, nil
}

// RemoveTemp removes what TempDir made, before this process ends. When the process is
// told to end, a large part may be left to the next one: see removeLeftovers.
func (s *shelf) RemoveTemp(dir string) error {
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
func (s *shelf) ownTemp() error {
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

func (s *shelf) removeOwnTemp() error {
	if s.readOnly() {
		return s.claims.close()
	}
	return errors.Join(s.RemoveTemp(s.tmp), s.own.Close(), s.claims.close())
}

// removeLeftovers removes what dead processes left in tmp/: their folders, which
// nobody holds locked, and what was only begun: new folders and single files, with
// which the living hold tmp/ itself. Files of other users, which only a user
// namespace can remove, stay for a process in one.
func (s *shelf) removeLeftovers() error {
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
