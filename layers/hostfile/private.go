package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Private makes dir a directory that its owner alone can look into, also when it
// is there already; only another user's stays as it is. What images hold has the
// owners and the modes that images say: a program of theirs that runs as root when
// anybody starts it must be in nobody's reach.
//
// Of a directory that others could look into, the files go that they could open:
// they may hold locks on them. One that is locked now may be a living build's, and
// goes three seconds later.
func Private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		if IsReadOnly(err) {
			return nil
		}
		return err
	}
	// Some file systems have one mode for all there is.
	if info, err = os.Stat(dir); err != nil || info.Mode().Perm()&0o077 != 0 {
		return err
	}
	deadline := time.Now().Add(maxHeld)
	return removeReadable(dir, func() bool {
		time.Sleep(heldPause)
		return time.Now().Before(deadline)
	})
}

const (
	// maxHeld is how long files that are locked may keep their names, all
	// together: a build of ours lets go of most locks soon, another user may
	// never do so.
	maxHeld = 3 * time.Second
	// heldPause is the time between two tries to lock such a file.
	heldPause = 20 * time.Millisecond
)

// removeReadable removes the files in dir that others may have opened. While one is
// locked it calls pause, which waits a while; when that returns false, the file is
// removed all the same.
func removeReadable(dir string, pause func() bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			err = removeUnheld(filepath.Join(dir, e.Name()), pause)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeUnheld removes the file while it holds its lock, so that nobody counts on
// the name, or without the lock when pause says so or the file cannot be opened.
func removeUnheld(path string, pause func() bool) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return os.Remove(path)
	}
	defer f.Close()
	for errors.Is(flock(f, Exclusive), unix.EWOULDBLOCK) && pause() {
	}
	// Whoever held it may have removed it, and the name be another lock's.
	if !Names(path, f) {
		return nil
	}
	return os.Remove(path)
}
