package hostfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Lack is what a file system has none left of.
type Lack string

// What may be lacking.
const (
	NoLack Lack = ""
	Bytes  Lack = "bytes"
	Inodes Lack = "inodes"
)

// A file system with less than this counts as full: between a failure and the look at
// it some room may have been given back.
const (
	leastBytes  = 1 << 20
	leastInodes = 16
)

// LackOf says what the file system of path, which exists, has none left of. One that
// cannot be looked at lacks nothing.
func LackOf(path string) Lack {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return NoLack
	}
	switch {
	// Some file systems make inodes as they need them, and have none to count.
	case st.Files > 0 && st.Ffree < leastInodes:
		return Inodes
	case st.Bavail*uint64(st.Bsize) < leastBytes:
		return Bytes
	}
	return NoLack
}

// Free is how many bytes the user may still write to the file system of path.
func Free(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// A FullError is a failure to write, and what was lacking at that moment: what was
// half written is removed before anybody hears of it, and then there is room again.
type FullError struct {
	Lack Lack
	Err  error
}

func (e *FullError) Error() string { return e.Err.Error() }

// Unwrap returns the failure.
func (e *FullError) Unwrap() error { return e.Err }

// Full adds to an ENOSPC error what the file system of path has run out of. Other
// errors, and those that say it already, stay as they are.
func Full(err error, path string) error {
	var known *FullError
	if !errors.Is(err, unix.ENOSPC) || errors.As(err, &known) {
		return err
	}
	if lack := LackOf(path); lack != NoLack {
		return &FullError{Lack: lack, Err: err}
	}
	return err
}
