// Package place writes files and directories to places of the user's: under its name
// stands what was there or the whole new thing, builds into one directory take turns,
// and nothing that others have planted leads a write elsewhere.
package place

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// WriteFile makes the file at path: under its name stands the old one or the
// whole new one, never a part. A symlink is followed as hostfile.Find does, and
// what is not a regular file (a pipe, a device) is written to as it is, until ctx
// ends. Missing directories are made.
func WriteFile(ctx context.Context, path string, write func(io.Writer) error) error {
	var inner error
	err := writeFile(ctx, path, func(w io.Writer) error {
		inner = write(w)
		return inner
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case inner != nil:
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return Error(path, err)
}

func writeFile(ctx context.Context, path string, write func(io.Writer) error) error {
	if strings.HasSuffix(path, "/") {
		return unix.EISDIR
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	p, err := hostfile.Find(path)
	if err != nil {
		return err
	}
	defer p.Close()
	st, err := p.Stat()
	if p.Open || err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return writeInto(ctx, p, write)
	}
	return Replace(p, write)
}

// Replace makes the file at p, in place of what is there.
func Replace(p *hostfile.Place, write func(io.Writer) error) error {
	if err := removeStale(p); err != nil {
		return err
	}
	t, err := openTemp(p)
	if err != nil {
		return err
	}
	defer t.close()
	if err := Fill(t.file, write); err != nil {
		return err
	}
	return t.rename()
}

// writeInto writes to what is at p: a pipe, a device, an open file.
func writeInto(ctx context.Context, p *hostfile.Place, write func(io.Writer) error) error {
	f, err := openForWriting(ctx, p)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	return errors.Join(Fill(f, write), f.Close())
}

// errNoReader is a pipe that nobody has opened for reading.
var errNoReader = errors.New("nobody reads the pipe")

// openForWriting opens what is at p. For the reader of a pipe it waits until ctx
// ends.
func openForWriting(ctx context.Context, p *hostfile.Place) (*os.File, error) {
	flags := unix.O_WRONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	if p.Open {
		flags |= unix.O_TRUNC
	} else {
		flags |= unix.O_NOFOLLOW
	}
	var file *os.File
	err := hostfile.Await(ctx, "somebody to read the pipe "+p.Name, errNoReader, func() error {
		fd, err := unix.Openat(int(p.Dir.Fd()), p.Name, flags, 0)
		if err == nil {
			file = os.NewFile(uintptr(fd), p.Name)
			return nil
		}
		if errors.Is(err, unix.ENXIO) && isPipe(p) {
			return errNoReader
		}
		return &fs.PathError{Op: "open", Path: p.Name, Err: err}
	})
	return file, err
}

// isPipe reports whether p is a pipe that somebody may come to read. Sockets and
// devices fail to open with the same error, and so does what is open already and
// has lost its reader.
func isPipe(p *hostfile.Place) bool {
	st, err := p.Stat()
	return err == nil && !p.Open && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// Fill writes to f in few large pieces.
func Fill(f io.Writer, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	return w.Flush()
}

// Check refuses a place that WriteFile would not use because of what another
// user has put there.
func Check(path string) error {
	var foreign *hostfile.ForeignError
	if err := hostfile.Check(path); errors.As(err, &foreign) {
		return Error(path, err)
	}
	return nil
}

// Error adds a hint to the error of a place that cannot be written to.
func Error(path string, err error) error {
	var foreign *hostfile.ForeignError
	if errors.As(err, &foreign) {
		return err
	}
	var known *hint.Error
	if errors.As(err, &known) {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	advice := ""
	switch {
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		advice = "choose a place that this user can write to"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EEXIST):
		advice = "choose another place, or move what is there"
	case errors.Is(err, unix.ENXIO):
		advice = "choose a file or a pipe; dest=- writes to standard output"
	}
	return hint.Add(fmt.Errorf("writing %s: %w", path, reason(err)), advice)
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
