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
//
// It removes nothing else, whatever becomes of dir meanwhile: a command that wrote it
// may live for a moment longer than the process that ran it.
func RemoveAll(ctx context.Context, dir string) error {
	above, err := os.OpenRoot(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer above.Close()
	r := removal{ctx: ctx}
	if err = r.remove(above, filepath.Base(dir)); errors.Is(err, fs.ErrPermission) {
		r.insists = true
		err = r.remove(above, filepath.Base(dir))
	}
	return err
}

// patience is how many files are removed between checks of the context: a folder with
// fewer goes in any case, so that an interrupted command leaves nothing small.
const patience = 1000

// removal is one RemoveAll.
type removal struct {
	ctx     context.Context
	insists bool // directories are made to allow it
	files   int  // how many were found
	ended   bool
}

// ends counts a file, and reports whether the context has ended.
func (r *removal) ends() bool {
	r.files++
	r.ended = r.ended || r.files%patience == 0 && r.ctx.Err() != nil
	return r.ended
}

func (r *removal) remove(in *os.Root, name string) error {
	if r.ends() {
		return context.Cause(r.ctx)
	}
	err := in.Remove(name)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err = r.empty(in, name); err == nil {
			err = in.Remove(name)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// empty removes what is in a directory. It returns the first error.
func (r *removal) empty(in *os.Root, name string) (err error) {
	if r.insists {
		_ = in.Chmod(name, 0o700)
	}
	dir, err := in.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	for most := patience; ; {
		names, listErr := list(dir, most)
		if len(names) == 0 {
			return cmp.Or(err, listErr)
		}
		failed := 0
		for _, name := range names {
			one := r.remove(dir, name)
			if r.ended {
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
func list(dir *os.Root, most int) ([]string, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(most)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, errors.Join(err, d.Close())
}
