package folder

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveAll removes dir with everything in it, also directories that forbid it to
// their owner. A missing dir is not an error. What cannot be removed stays, and all
// else goes. When ctx ends, RemoveAll stops and returns its cause, unless dir is small.
func RemoveAll(ctx context.Context, dir string) error {
	r := removal{ctx: ctx}
	err := r.remove(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if r.ends() {
			return fs.SkipAll
		}
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return r.remove(dir)
}

// patience is how many files are removed between checks of the context: a folder with
// fewer goes in any case, so that an interrupted command leaves nothing small.
const patience = 1000

// removal is one RemoveAll.
type removal struct {
	ctx   context.Context
	files int // how many were found
	ended bool
}

// ends counts a file, and reports whether the context has ended.
func (r *removal) ends() bool {
	r.files++
	r.ended = r.ended || r.files%patience == 0 && r.ctx.Err() != nil
	return r.ended
}

func (r *removal) remove(path string) error {
	if r.ends() {
		return context.Cause(r.ctx)
	}
	err := os.Remove(path)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err = r.empty(path); err == nil {
			err = os.Remove(path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// empty removes what is in a directory. It returns the first error.
func (r *removal) empty(dir string) (err error) {
	for most := patience; ; {
		names, listErr := list(dir, most)
		if len(names) == 0 {
			return cmp.Or(err, listErr)
		}
		failed := 0
		for _, name := range names {
			one := r.remove(filepath.Join(dir, name))
			switch {
			case errors.Is(one, unix.ENAMETOOLONG):
				one = os.RemoveAll(dir) // which opens directory after directory
			case r.ended:
				return one
			}
			if one != nil {
				failed++
				err = cmp.Or(err, one)
			}
		}
		switch {
		case failed == len(names) && len(names) < most:
			return err
		case failed == len(names):
			most *= 2 // others may lie behind those that stay
		}
	}
}

// list returns the first names in a directory.
func list(dir string, most int) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(most)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, errors.Join(err, d.Close())
}
