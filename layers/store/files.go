package store

import (
	"context"
	"path/filepath"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Lock takes the named lock, against this process's other goroutines as well
// as other processes. what names for people what they wait for.
func (s *Store) Lock(ctx context.Context, name, what string) (unlock func(), err error) {
	f, err := hostfile.Lock(ctx, filepath.Join(s.root, "locks", name), what, hostfile.Exclusive)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// writeFile writes data at path by way of a temporary name.
func (s *Store) writeFile(path string, data []byte) error {
	return folder.WriteFile(filepath.Join(s.tmp, "file-"), path, data, 0o644)
}
