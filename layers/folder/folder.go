// Package folder is for folders that several processes use at once: files that
// are there as a whole or not at all, and locks that end with the process that
// holds them. What the files hold is for others to say.
//
// Package cache, which knows nothing of layers, has the same for itself.
package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits until nobody else holds the lock file at path, which is made when it
// is missing, and then holds it. It fails when ctx ends first. The lock ends when
// the file is closed, also by the end of the process; a process that inherits the
// file holds it as well.
func Lock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := Hold(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Hold is Lock for a file or directory that is open already. It tries again and
// again, as a blocking flock cannot be interrupted by a context.
func Hold(ctx context.Context, f *os.File) error {
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

// WriteFile makes data what is at path: at every moment the old file or the whole
// new one is there. temp is how the file is called while it is being written, but
// for the end of its name: a path on the same file system.
func WriteFile(temp, path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(temp), filepath.Base(temp))
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Private makes dir a folder that its owner alone can look into, also when it is
// there already; only another user's stays as it is. What images hold has the
// owners and the modes that images say: a program of theirs that runs as root when
// anybody starts it must be in nobody's reach.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := os.Chmod(dir, 0o700); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// RemoveAll removes dir with everything in it, also directories that forbid it to
// their owner. What is not there is no error.
func RemoveAll(dir string) error {
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
