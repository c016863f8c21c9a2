package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile makes the file at path: under its name stands the old one or the
// whole new one, never a part. A symlink is followed, and what is no regular
// file (a pipe, a device) is written to as it is. Missing directories are made.
func WriteFile(path string, write func(io.Writer) error) error {
	var inner error
	err := writeFile(path, func(w io.Writer) error {
		inner = write(w)
		return inner
	})
	switch {
	case err == nil:
		return nil
	case inner != nil:
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return placed(path, err)
}

func writeFile(path string, write func(io.Writer) error) error {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(fill(f, write), f.Close())
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := removeStale(path); err != nil {
		return err
	}
	t, err := openTemp(path)
	if err != nil {
		return err
	}
	defer t.close()
	if err := fill(t.file, write); err != nil {
		return err
	}
	return t.rename(path)
}

// fill writes to f.
func fill(f *os.File, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	return w.Flush()
}

// placed adds the way out to the error of a place that cannot be written to.
func placed(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		hint = "choose a place that this user can write to"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST):
		hint = "choose another place, or move what is there"
	}
	return hinted(fmt.Errorf("writing %s: %w", path, reason(err)), hint)
}

// reason is err without the name of a temporary file, which says nothing to
// anybody.
func reason(err error) error {
	var file *os.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &file):
		return file.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
