// Package hostfile opens files of this machine that somebody else may have had a
// hand in: what a build reads, the places it writes to, the locks it takes.
//
// The invariant: no name that another user chose makes us wait without an end,
// follow a symlink that the kernel would not follow, or trust a file that is not
// ours. The package knows neither images nor stores.
package hostfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Limits for files that are read whole, in bytes.
const (
	// MaxText is for what people write: Dockerfiles, rules, arguments.
	MaxText = 16 << 20
	// MaxConfig is for configuration files and certificates.
	MaxConfig = 4 << 20
)

// KindError is a file of a kind that cannot be read as a file.
type KindError struct {
	Path string
	Mode fs.FileMode
}

func (e *KindError) Error() string {
	return fmt.Sprintf("%s is %s, not a regular file", e.Path, kindName(e.Mode))
}

// HintText says what to do about it.
func (e *KindError) HintText() string { return "name a regular file, or remove what is there" }

func kindName(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeSymlink != 0:
		return "a symlink"
	}
	return "a device"
}

// SizeError is a file that is longer than Limit bytes.
type SizeError struct {
	Path  string
	Limit int64
}

func (e *SizeError) Error() string { return fmt.Sprintf("%s has more than %d bytes", e.Path, e.Limit) }

// Open opens a regular file for reading. It never waits: what is not a regular
// file is a *KindError, also when it takes the place of one meanwhile. A device
// is not opened, as that alone may have an effect.
func Open(path string) (*os.File, error) {
	return openRegular(path, os.Stat, func(path string) (*os.File, error) {
		return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	})
}

// OutsideError is a symlink that leads out of the directory in which a file is
// looked for.
type OutsideError struct{ Path string }

func (e *OutsideError) Error() string {
	return e.Path + " leads out of the directory through a symlink"
}

// HintText says what to do about it.
func (e *OutsideError) HintText() string {
	return "give a copy with files in place of the symlinks: cp -rL makes one"
}

// OpenIn is Open for a file below root. Symlinks are followed, but one that leads
// out of the root is an *OutsideError.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	f, err := openRegular(name, root.Stat, func(name string) (*os.File, error) {
		return root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	})
	var file *fs.PathError
	if errors.As(err, &file) && file.Err.Error() == escapes {
		return nil, &OutsideError{Path: name}
	}
	return f, err
}

// escapes is the text of the error of os.Root, which has no name.
const escapes = "path escapes from parent"

func openRegular(path string, stat func(string) (fs.FileInfo, error), open func(string) (*os.File, error)) (*os.File, error) {
	info, err := stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &KindError{Path: path, Mode: info.Mode()}
	}
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = &KindError{Path: path, Mode: info.Mode()}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Read returns the content of a regular file of up to limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, path, limit)
}

// ReadIn is Read for a file below root; see OpenIn.
func ReadIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name, limit)
}

func readAll(r io.Reader, path string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, &SizeError{Path: path, Limit: limit}
	}
	return data, err
}

// OpenStream opens what a person named, which may be a pipe, as a shell's
// <(command) is. Opening and reading a pipe end with ctx. A directory is a
// *KindError.
func OpenStream(ctx context.Context, path string) (io.ReadCloser, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, &KindError{Path: path, Mode: info.Mode()}
	case info.Mode().IsRegular():
		return Open(path)
	}
	return Interruptible(ctx, func() (io.ReadCloser, error) { return os.Open(path) }), nil
}

// ReadStream is Read for what OpenStream opens.
func ReadStream(ctx context.Context, path string, limit int64) ([]byte, error) {
	r, err := OpenStream(ctx, path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(r, path, limit)
}

// Interruptible reads what open opens, until ctx ends: the system call in which a
// pipe or a terminal is waited for knows of no context, and is left behind.
func Interruptible(ctx context.Context, open func() (io.ReadCloser, error)) io.ReadCloser {
	out, in := io.Pipe()
	stop := context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer stop()
		r, err := open()
		if err == nil {
			_, err = io.Copy(in, r)
			err = errors.Join(err, r.Close())
		}
		in.CloseWithError(err)
	}()
	return out
}
