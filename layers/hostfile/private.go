package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Private makes dir a directory that its owner alone can look into, also when it
// is there already; only another user's stays as it is. What images hold has the
// owners and the modes that images say: a program of theirs that runs as root when
// anybody starts it must be in nobody's reach.
//
// Of a directory that others could look into, the files go that they could open:
// they may hold locks on them.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	// Some file systems have one mode for all there is.
	if info, err = os.Stat(dir); err != nil || info.Mode().Perm()&0o077 != 0 {
		return err
	}
	return removeReadable(dir)
}

// removeReadable removes the files in dir that others may have opened.
func removeReadable(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
