package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// leftoverAge is how long a temporary folder without a lock may stand before it
// is taken for a dead process's.
const leftoverAge = time.Hour

func isOld(info fs.FileInfo) bool { return time.Since(info.ModTime()) > leftoverAge }

// removeAll removes dir with everything in it, also directories that forbid it
// to their owner.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

var errDamaged = errors.New("checksum does not match")

// seal puts a line with the checksum before payload, so that a torn or altered
// file shows.
func seal(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	return append([]byte(hex.EncodeToString(sum[:])+"\n"), payload...)
}

func unseal(data []byte) ([]byte, error) {
	head, payload, ok := bytes.Cut(data, []byte{'\n'})
	sum := sha256.Sum256(payload)
	if !ok || string(head) != hex.EncodeToString(sum[:]) {
		return nil, errDamaged
	}
	return payload, nil
}

// lock takes the named lock, against this process's other goroutines as well
// as other processes.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.root, "locks", name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lockFile(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// lockFile takes the lock of f. A blocking flock cannot be interrupted by a
// context, so it is tried again and again.
func lockFile(ctx context.Context, f *os.File) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// sync makes the layers that this process completed durable: until then they
// count only until the machine is started again. One syncfs does for all of
// them, and no step has to wait for it.
func (s *Store) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unsynced) == 0 {
		return nil
	}
	dir, err := os.Open(s.root)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return err
	}
	for id := range s.unsynced {
		err := os.Remove(s.layerPath(id, unsyncedName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(s.unsynced, id)
	}
	return nil
}

// writeFile writes data at path by way of a temporary name.
func (s *Store) writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(s.tmp, "file-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
