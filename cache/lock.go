package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits until this caller alone works on the step, in this process and
// all others. The returned function ends that. It fails when ctx ends first.
func (s *Store) Lock(ctx context.Context, k Key) (unlock func(), err error) {
	path := filepath.Join(s.root, "locks", "step-"+k.String())
	for {
		f, err := openLock(ctx, path, unix.LOCK_EX)
		if err != nil {
			return nil, fmt.Errorf("locking step %s: %w", k, err)
		}
		// The one before us removed the name before it let go: then what
		// we hold is a file that nobody else will look at.
		if !stillThere(f, path) {
			f.Close()
			continue
		}
		return func() {
			_ = os.Remove(path)
			f.Close()
		}, nil
	}
}

func stillThere(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(held, named)
}

// Share says that a build is using the store, until release is called. Many
// may share it; collection waits for all of them.
func (s *Store) Share(ctx context.Context) (release func(), err error) {
	return s.holdStore(ctx, unix.LOCK_SH)
}

// Exclude waits until nobody else uses the store and keeps others out until
// release is called.
func (s *Store) Exclude(ctx context.Context) (release func(), err error) {
	return s.holdStore(ctx, unix.LOCK_EX)
}

func (s *Store) holdStore(ctx context.Context, how int) (func(), error) {
	f, err := openLock(ctx, filepath.Join(s.root, "locks", "store"), how)
	if err != nil {
		return nil, fmt.Errorf("locking the store: %w", err)
	}
	return func() { f.Close() }, nil
}

func openLock(ctx context.Context, path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// flock takes the lock with growing pauses between tries, because a blocking
// flock cannot be interrupted by a context.
func flock(ctx context.Context, f *os.File, how int) error {
	for pause := time.Millisecond; ; pause = min(pause*2, 100*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
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
