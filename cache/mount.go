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

	"github.com/sinter-build/sinter/layers/hostfile"
)

// Mount returns the directory of a RUN --mount=type=cache and holds it as
// sharing says, until release is called: "shared" (many at once), "locked" (one
// after the other), "private" (a directory of one's own for each that runs at
// once). A directory that is new is first filled by fill; when fill fails,
// nothing stays.
func (s *Store) Mount(ctx context.Context, key Key, sharing string, fill func(dir string) error) (dir string, release func(), err error) {
	for i := 0; ; i++ {
		name := key.String()
		if i > 0 {
			name += "-" + strconv.Itoa(i)
		}
		base := filepath.Join(s.root, "mounts", name)
		if err := s.useMount(name, base); err != nil {
			return "", nil, fmt.Errorf("making a cache mount: %w", err)
		}
		release, err := holdMount(ctx, base, sharing)
		if sharing == "private" && errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return "", nil, fmt.Errorf("locking a cache mount: %w", err)
		}
		dir := filepath.Join(base, "fs")
		if err := s.fillMount(ctx, dir, fill); err != nil {
			release()
			return "", nil, fmt.Errorf("making a cache mount: %w", err)
		}
		return dir, release, nil
	}
}

// useMount claims the folder of a cache mount, and makes it if it is missing.
func (s *Store) useMount(name, base string) error {
	if s.Claim != nil {
		if err := s.Claim("mounts/" + name); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(base, 0o711); err != nil {
		return err
	}
	touch(base)
	return nil
}

// holdMount holds a cache mount as sharing says. It waits, unless the mount is
// private.
func holdMount(ctx context.Context, base, sharing string) (func(), error) {
	path := filepath.Join(base, "lock")
	var f *os.File
	var err error
	switch sharing {
	case "private":
		f, err = hostfile.TryLock(path, hostfile.Exclusive)
	case "locked":
		f, err = hostfile.Lock(ctx, path, "a cache mount with sharing=locked, which another command uses", hostfile.Exclusive)
	default:
		f, err = hostfile.Lock(ctx, path, "a cache mount, which another command uses exclusively", hostfile.Shared)
	}
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// fillMount makes dir in one rename. Of several that try at once, one fills it and
// the others wait; so what a killed process began can be told, and goes.
func (s *Store) fillMount(ctx context.Context, dir string, fill func(dir string) error) error {
	if _, err := os.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	base := filepath.Dir(dir)
	filling, err := hostfile.Lock(ctx, filepath.Join(base, "filling"), "a cache mount, which another command fills", hostfile.Exclusive)
	if err != nil {
		return err
	}
	defer filling.Close()
	if _, err := os.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begun, err := filepath.Glob(filepath.Join(base, "new-*"))
	for _, path := range begun {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(base, "new-")
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
	return unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
}
