package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is where a file is to be written: a name in an open directory, so that
// nobody can exchange the way to it meanwhile. Symlinks have been followed: what
// the name stands for is not one, or became one later and is not followed.
type Place struct {
	// Dir is open for naming what is in it (O_PATH).
	Dir *os.File
	// Name has no slash.
	Name string
	// Open says that the name stands for an open file, as /proc/self/fd/1
	// does, whatever that is: it can be opened, but not replaced.
	Open bool
}

// MaxLinks is how many symlinks on the way to a file are followed, as in the kernel
// (path_resolution(7)).
const MaxLinks = 40

// ForeignError is something of another user's in a directory that everybody may
// write to. It would decide where our data go.
type ForeignError struct {
	Path  string
	Kind  string
	Owner uint32
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is %s that belongs to user %d, in a directory that everybody may write to", e.Path, e.Kind, e.Owner)
}

// HintText says what to do about it.
func (e *ForeignError) HintText() string {
	return "choose a directory that only this user can write to, or remove what is there"
}

// Find finds the place of a file that is to be written. A symlink at path is
// followed under the kernel's rule for sticky directories (protected_symlinks in
// proc_sys_fs(5)), whether or not the kernel applies it; on the way to the file's
// directory the kernel follows symlinks as it is set to. Pipes and devices in such
// directories must be ours as well (protected_fifos). The directory has to exist.
func Find(path string) (*Place, error) {
	if short := strings.TrimRight(path, "/"); short != "" {
		path = short // the name of a directory may end in slashes
	}
	at := unix.AT_FDCWD
	var above *os.File // what at is the descriptor of
	for range MaxLinks {
		dir, err := openDir(at, path)
		if above != nil {
			_ = above.Close()
		}
		if err != nil {
			return nil, err
		}
		p := &Place{Dir: dir, Name: filepath.Base(path)}
		target, err := p.follow(path)
		if err != nil {
			return nil, errors.Join(err, dir.Close())
		}
		if target == "" {
			return p, nil
		}
		path, at, above = target, int(dir.Fd()), dir
	}
	return nil, errors.Join(&fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}, above.Close())
}

// Close closes the directory.
func (p *Place) Close() error { return p.Dir.Close() }

// openDir opens the directory that path, which is relative to at, lies in.
func openDir(at int, path string) (*os.File, error) {
	name := filepath.Dir(path)
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// follow returns what the symlink at p points to, "" when there is none. It fails
// when p must not be used.
func (p *Place) follow(path string) (target string, err error) {
	fd, err := unix.Openat(int(p.Dir.Fd()), p.Name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st, dir unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Fstat(int(p.Dir.Fd()), &dir)); err != nil {
		return "", &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		return "", nil
	case unix.S_IFLNK:
		if isForeign(&st, &dir) {
			return "", &ForeignError{Path: path, Kind: "a symlink", Owner: st.Uid}
		}
		if p.Open = isProc(p.Dir); p.Open {
			return "", nil
		}
		return readLink(fd, path)
	}
	if isForeign(&st, &dir) {
		return "", &ForeignError{Path: path, Kind: "a pipe or a device", Owner: st.Uid}
	}
	return "", nil
}

// isForeign applies the kernel's rule: in a sticky directory that everybody may
// write to, only what belongs to us or to the directory's owner is to be trusted.
// Owners that a user namespace does not know cannot be told apart.
func isForeign(st, dir *unix.Stat_t) bool {
	const open = unix.S_ISVTX | unix.S_IWOTH
	if dir.Mode&open != open || int(st.Uid) == os.Geteuid() {
		return false
	}
	return st.Uid != dir.Uid || st.Uid == overflowID
}

// overflowID is the owner that files have which no ID of the user namespace
// stands for.
const overflowID = 65534

// isProc reports whether dir is one of procfs, where symlinks stand for open files.
func isProc(dir *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(dir.Fd()), &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
}

// readLink reads the symlink that is open as fd.
func readLink(fd int, path string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil || n == 0 {
		return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	target := string(buf[:n])
	if strings.HasSuffix(target, "/") {
		return "", &fs.PathError{Op: "open", Path: path, Err: unix.EISDIR}
	}
	return target, nil
}

// Stat describes what is at the place, which is not followed.
func (p *Place) Stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(p.Dir.Fd()), p.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// Check is Find for a place that is going to be used later: it tells what would
// be refused then. A directory that does not exist yet is not refused.
func Check(path string) error {
	p, err := Find(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.Close()
}
