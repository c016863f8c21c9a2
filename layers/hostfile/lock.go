package hostfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Waiting says how whoever waits for a lock is told of it.
type Waiting struct {
	// Patience is how long a wait may take before it is told of.
	Patience time.Duration
	// Tell gets what is waited for: "the list of images". It may be called by
	// several goroutines at once.
	Tell func(what string)
}

type waitingKey struct{}

// WithWaiting returns a context with which all locks, and Await, tell of their
// waits.
func WithWaiting(ctx context.Context, w Waiting) context.Context {
	return context.WithValue(ctx, waitingKey{}, w)
}

// How a lock is taken.
const (
	Shared    = unix.LOCK_SH
	Exclusive = unix.LOCK_EX
)

// Lock waits until the lock file at path can be taken, and holds it until the file
// is closed, also by the end of the process; a process that inherits the file
// holds it as well. In a build with the race detector, a goroutine that takes a lock
// which it holds panics. The file is made when it is missing. It fails when ctx ends
// first. what names what is locked, for people.
//
// The file is readable by its owner alone, because whoever can open a file can
// keep it locked for ever; one that another user made is an error.
func Lock(ctx context.Context, path, what string, how int) (*os.File, error) {
	checkReentry(ctx, path, how)
	for {
		f, err := OpenLock(path)
		if err != nil {
			return nil, err
		}
		if err := Hold(ctx, f, what, how); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Whoever held it before may have removed the name: then what we
		// hold is a file that nobody else will look at.
		if Names(path, f) {
			noteHeld(path, f, how)
			return f, nil
		}
		_ = f.Close()
	}
}

// TryLock is Lock without a wait: when somebody else holds the lock it fails with
// unix.EWOULDBLOCK.
func TryLock(path string, how int) (*os.File, error) {
	f, err := OpenLock(path)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	noteHeld(path, f, how)
	return f, nil
}

// OpenLock opens a lock file without taking the lock; see Hold.
func OpenLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if IsReadOnly(err) {
		// Whoever can read the file can lock it.
		if there, readErr := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); readErr == nil {
			f, err = there, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if err := ownLock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ownLock fails unless f is a regular file of ours, and closes it to others.
func ownLock(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return &OwnerError{
			Path: "the lock " + f.Name(), Reason: "is not a regular file",
			Hint: "remove it: sinter creates its locks again when it needs them",
		}
	}
	if !isOurs(&st) {
		return foreignOwner("the lock "+f.Name(), &st, false)
	}
	if st.Mode&0o077 == 0 {
		return nil
	}
	// Some file systems have one mode for all there is.
	if err := f.Chmod(0o600); !IsReadOnly(err) {
		return err
	}
	return nil
}

// LockDir locks a directory that only its owner can open, as long as the returned
// file is open. It waits for others, who must hold it for a moment only.
func LockDir(dir string, how int) (*os.File, error) {
	return lockDir(dir, func(f *os.File) error { return Hold(context.Background(), f, "the directory "+dir, how) })
}

// TryLockDir is LockDir without a wait: when somebody else holds the lock it fails
// with unix.EWOULDBLOCK.
func TryLockDir(dir string, how int) (*os.File, error) {
	return lockDir(dir, func(f *os.File) error { return flock(f, how) })
}

func lockDir(dir string, take func(*os.File) error) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := take(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Names reports whether path, not followed, is the open file f.
func Names(path string, f *os.File) bool { return NamesAt(unix.AT_FDCWD, path, f) }

// NamesAt reports whether a name in an open directory, not followed, is the open
// file f.
func NamesAt(dir int, name string, f *os.File) bool {
	var now, opened unix.Stat_t
	if unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	if cerr := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &opened) }); cerr != nil || err != nil {
		return false
	}
	return now.Dev == opened.Dev && now.Ino == opened.Ino
}

// Hold waits until the open file f can be locked, and fails when ctx ends first;
// see Lock. The lock ends when f is closed.
func Hold(ctx context.Context, f *os.File, what string, how int) error {
	return Await(ctx, what, unix.EWOULDBLOCK, func() error { return flock(f, how) })
}

// Await calls try until its error is not busy, as a blocking system call cannot be
// interrupted by a context. It fails when ctx ends first. what names what is waited
// for, for people.
func Await(ctx context.Context, what string, busy error, try func() error) error {
	waiting, _ := ctx.Value(waitingKey{}).(Waiting)
	began, told := time.Now(), waiting.Tell == nil
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if err := try(); !errors.Is(err, busy) {
			return err
		}
		if !told && time.Since(began) >= waiting.Patience {
			told = true
			waiting.Tell(what)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// flock takes the lock or fails with unix.EWOULDBLOCK.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// IsReadOnly reports whether err, of something that was to be written, says that this
// user can only read there: a file system that is mounted read-only, or modes.
func IsReadOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)
}
