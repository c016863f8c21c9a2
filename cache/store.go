package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// Store keeps records (steps/), remembered content digests (content/) and cache
// mounts (mounts/) below one folder, with the locks of those who use them (locks/).
type Store struct {
	// Claim says that a cache mount, a folder below root, is in use before it is
	// looked at, so that nobody removes it. Optional.
	Claim func(folder string) error

	root string
	// bare says that folders are missing and cannot be made.
	bare bool
}

// Open makes the store's folders below root. Of a store that can only be read those
// that are missing are missing.
func Open(root string) (*Store, error) {
	err := makeFolders(root)
	_, missing := os.Stat(root)
	bare := missing == nil && hostfile.IsReadOnly(err)
	if err != nil && !bare {
		return nil, fmt.Errorf("making the cache store: %w", err)
	}
	return &Store{root: root, bare: bare}, nil
}

// makeFolders makes those that are missing. A new store is its owner's alone;
// locks, temporary files and what commands keep in their cache mounts always are.
func makeFolders(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	for _, d := range []string{"steps", "content"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"locks", "tmp", "mounts"} {
		if err := hostfile.Private(filepath.Join(root, d)); err != nil {
			return err
		}
	}
	return nil
}

// stepPath spreads records over 256 folders, so that none gets huge.
func (s *Store) stepPath(k Key) string {
	h := k.String()
	return filepath.Join(s.root, "steps", h[:2], h)
}

// Get returns the record of a step. It fails with fs.ErrNotExist when there is
// none and with folder.ErrCorrupt when the file is damaged; both are a miss.
func (s *Store) Get(k Key) (*Record, error) {
	data, err := os.ReadFile(s.stepPath(k))
	if errors.Is(err, unix.EISDIR) {
		return nil, fmt.Errorf("record %s: %w: %w", k, folder.ErrCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(k, data)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", k, err)
	}
	s.Used(k)
	return r, nil
}

// Used says that the record of a step, if there is one, was of use: collection removes
// the longest unused first.
func (s *Store) Used(k Key) { touch(s.stepPath(k)) }

// touch sets the time of a file, which only saves work and so may fail.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// Put writes a record; an older one with the same key is replaced.
func (s *Store) Put(r *Record) error {
	data, err := encodeRecord(r)
	if err != nil {
		return fmt.Errorf("record %s: %w", r.Key, err)
	}
	return s.write(s.stepPath(r.Key), data)
}

// Remove forgets a step. An unknown step is not an error.
func (s *Store) Remove(k Key) error {
	err := os.Remove(s.stepPath(k))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Stored is a record with the time it was last used.
type Stored struct {
	Record *Record
	Used   time.Time
	// Size of the record's own file in bytes.
	Size int64
}

// All returns every readable record, in no order. Damaged ones are removed: they
// could only ever be misses. It fails when ctx ends.
func (s *Store) All(ctx context.Context) ([]Stored, error) {
	var all []Stored
	err := filepath.WalkDir(filepath.Join(s.root, "steps"), func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || d.IsDir() {
			return ignoreMissing(err)
		}
		var k Key
		if k.UnmarshalText([]byte(d.Name())) != nil {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return ignoreMissing(err)
		}
		r, err := decodeRecord(k, data)
		if err != nil {
			if err := os.Remove(path); !hostfile.IsReadOnly(err) {
				return ignoreMissing(err)
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		all = append(all, Stored{Record: r, Used: info.ModTime(), Size: info.Size()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the records: %w", err)
	}
	return all, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Content returns the remembered digest of the files that a selection picks from
// a root file system, given by the names of its layers, and whether there is one.
func (s *Store) Content(layers []string, selection string) (digest.Digest, bool) {
	path := s.contentPath(layers, selection)
	data, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	payload, err := folder.Unseal(data)
	if err != nil {
		return "", false
	}
	d, err := digest.Parse(string(payload))
	if err != nil {
		return "", false
	}
	touch(path)
	return d, true
}

// PutContent remembers such a digest.
func (s *Store) PutContent(layers []string, selection string, d digest.Digest) error {
	return s.write(s.contentPath(layers, selection), folder.Seal([]byte(d.String())))
}

func (s *Store) contentPath(layers []string, selection string) string {
	var r Recipe
	r.AddList("layers", layers...)
	r.Add("selection", selection)
	h := r.Key().String()
	return filepath.Join(s.root, "content", h[:2], h)
}

// writeNameless makes a file where there is none. It has no name before it is
// whole, so a process that is killed leaves nothing. It reports whether that could
// be done; where not, write finds out why.
func (s *Store) writeNameless(path string, data []byte) bool {
	f, err := os.OpenFile(filepath.Join(s.root, "tmp"), os.O_WRONLY|unix.O_TMPFILE, 0o600)
	if err != nil {
		return false
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return false
	}
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW) == nil
}

// write puts data at path by way of a temporary name, so that a reader sees the
// old file or the whole new one.
func (s *Store) write(path string, data []byte) error {
	if s.writeNameless(path, data) {
		return nil
	}
	// As long as tmp/ is held, the file is not taken for a leftover.
	held, err := hostfile.LockDir(filepath.Join(s.root, "tmp"), hostfile.Shared)
	if err != nil {
		return fmt.Errorf("writing to the cache store: %w", err)
	}
	defer held.Close()
	if err := folder.WriteFile(filepath.Join(s.root, "tmp", "record-"), path, data, 0o600); err != nil {
		return fmt.Errorf("writing to the cache store: %w", err)
	}
	return nil
}
