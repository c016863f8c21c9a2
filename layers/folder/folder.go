// Package folder is for folders that several processes use at once: it writes
// files that are there as a whole or not at all, and measures and removes trees. What the files
// hold is for others to say; locks and private folders are hostfile's.
package folder

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
)

// WriteFile makes data what is at path: at every moment the old file or the whole
// new one is there. temp is how the file is called while it is being written, but
// for the end of its name: a path on the same file system.
func WriteFile(temp, path string, data []byte, mode fs.FileMode) error {
	return write(temp, path, data, mode, nil)
}

// WriteDurably is WriteFile for a file that must be on disk when it returns: after
// the machine has gone down the old file or the whole new one is there. before is
// called right before the new one takes its place.
func WriteDurably(temp, path string, data []byte, mode fs.FileMode, before func() error) error {
	err := write(temp, path, data, mode, func(f *os.File) error { return errors.Join(f.Sync(), before()) })
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func write(temp, path string, data []byte, mode fs.FileMode, before func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(temp), filepath.Base(temp))
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && before != nil {
		err = before(f)
	}
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = Place(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Place renames a file to path. The folder is made when it is missing, as often as
// others remove it, and a directory of that name, which is never ours, is removed.
func Place(from, path string) error {
	for {
		err := os.Rename(from, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if _, err := os.Lstat(from); err != nil {
				return err
			}
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		case errors.Is(err, fs.ErrExist):
			err = os.RemoveAll(path)
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// ErrCorrupt is what reading a stored file yields whose bytes are not what its digest or
// checksum says.
var ErrCorrupt = errors.New("the content does not match its digest")

// Seal puts a line with its checksum before payload, so that a torn or altered file
// shows.
func Seal(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	return append([]byte(hex.EncodeToString(sum[:])+"\n"), payload...)
}

// Unseal returns what Seal was given, or ErrCorrupt if data was torn or altered since.
func Unseal(data []byte) (payload []byte, err error) {
	head, payload, ok := bytes.Cut(data, []byte{'\n'})
	if sum := sha256.Sum256(payload); !ok || string(head) != hex.EncodeToString(sum[:]) {
		return nil, ErrCorrupt
	}
	return payload, nil
}

// Measure adds up the lengths in bytes of the regular files at and below path, and
// says when anything there was last changed. It leaves out what this user may not look
// into, and what others remove meanwhile. It fails when ctx ends.
func Measure(ctx context.Context, path string) (size int64, changed time.Time, err error) {
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		switch {
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		if d.Type().IsRegular() {
			size += info.Size()
		}
		if info.ModTime().After(changed) {
			changed = info.ModTime()
		}
		return nil
	})
	return size, changed, err
}
