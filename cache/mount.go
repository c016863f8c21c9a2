package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Mount returns the directory of a RUN --mount=type=cache and holds it as
// sharing says, until release is called: "shared" (many at once), "locked" (one
// after the other), "private" (a directory of one's own for each that runs at
// once). A directory that is new is first filled by fill; when fill fails,
// nothing stays.
func (s *Store) Mount(ctx context.Context, key Key, sharing string, fill func(dir string) error) (dir string, release func(), err error) {
	for i := 0; ; i++ {
		base := filepath.Join(s.root, "mounts", key.String())
		if i > 0 {
			base += "-" + strconv.Itoa(i)
		}
		if err := os.MkdirAll(base, 0o711); err != nil {
			return "", nil, fmt.Errorf("making a cache mount: %w", err)
		}
		how := unix.LOCK_SH
		switch sharing {
		case "locked":
			how = unix.LOCK_EX
		case "private":
			how = unix.LOCK_EX | unix.LOCK_NB
		}
		release, err := holdMount(ctx, base, how)
		if sharing == "private" && errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return "", nil, fmt.Errorf("locking a cache mount: %w", err)
		}
		dir := filepath.Join(base, "fs")
		if err := s.fillMount(dir, fill); err != nil {
			release()
			return "", nil, fmt.Errorf("making a cache mount: %w", err)
		}
		return dir, release, nil
	}
}

func holdMount(ctx context.Context, base string, how int) (func(), error) {
	path := filepath.Join(base, "lock")
	if how&unix.LOCK_NB == 0 {
		f, err := openLock(ctx, path, how)
		if err != nil {
			return nil, err
		}
		return func() { f.Close() }, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// fillMount makes dir in one rename. Of several that try at once, one wins and
// the others use its directory.
func (s *Store) fillMount(dir string, fill func(dir string) error) error {
	if _, err := os.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
