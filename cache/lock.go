package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// Lock waits until this caller alone works on the step, in this process and
// all others. The returned function ends that. It fails when ctx ends first. name
// is what people call the step.
func (s *Store) Lock(ctx context.Context, k Key, name string) (unlock func(), err error) {
	path := filepath.Join(s.root, "locks", "step-"+k.String())
	f, err := hostfile.Lock(ctx, path, "another build, which runs the step "+name, hostfile.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("locking step %s: %w", k, err)
	}
	return func() {
		_ = os.Remove(path)
		f.Close()
	}, nil
}

// Share says that a command is using the store, until release is called. The collection
// of older versions, which knows of no claims, waits for all who share it.
func (s *Store) Share(ctx context.Context) (release func(), err error) {
	f, err := hostfile.Lock(ctx, filepath.Join(s.root, "locks", "store"), "prune or verify --repair to finish", hostfile.Shared)
	if hostfile.IsReadOnly(err) || s.bare && errors.Is(err, fs.ErrNotExist) {
		// Nobody has a lock where there can be none.
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("locking the store: %w", err)
	}
	return func() { f.Close() }, nil
}
