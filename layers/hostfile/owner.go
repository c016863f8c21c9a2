package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OwnerError is a directory of ours in which something belongs to somebody else,
// or can be replaced by everybody.
type OwnerError struct {
	Path   string
	Reason string
	Hint   string
}

func (e *OwnerError) Error() string { return e.Path + " " + e.Reason }

// HintText says what to do about it.
func (e *OwnerError) HintText() string { return e.Hint }

// CheckOwner fails with an *OwnerError unless we can trust what is in dir: dir
// belongs to us or to root, nobody else can replace what is in it, and those of
// entries that are there belong to us, also those that symlinks lead to. A dir that
// does not exist is fine.
//
// The root directory of a mount may be writable by everybody: a container gets its
// volumes so. Whoever mounted it decides who can reach it.
//
// rootUnknown says that root is not known in this user namespace, so that it looks
// like any user without an ID.
func CheckOwner(dir string, entries []string, rootUnknown bool) error {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if !isOurs(&st) && st.Uid != 0 && !(rootUnknown && st.Uid == overflowID) {
		return foreignOwner(dir, &st)
	}
	if st.Mode&unix.S_IWOTH != 0 && st.Mode&unix.S_ISVTX == 0 && !isMount(dir, &st) {
		return &OwnerError{
			Path: dir, Reason: "can be written to by everybody, who could replace what is in it",
			Hint: fmt.Sprintf("chmod o-w %s, or use a directory below it: SINTER_ROOT=%s", dir, filepath.Join(dir, "sinter")),
		}
	}
	for _, name := range entries {
		if err := checkEntry(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func checkEntry(path string) error {
	for _, stat := range []func(string, *unix.Stat_t) error{unix.Lstat, unix.Stat} {
		var st unix.Stat_t
		err := stat(path, &st)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		if !isOurs(&st) {
			return foreignOwner(path, &st)
		}
	}
	return nil
}

func isOurs(st *unix.Stat_t) bool { return int(st.Uid) == os.Geteuid() }

func foreignOwner(path string, st *unix.Stat_t) error {
	return &OwnerError{
		Path: path, Reason: fmt.Sprintf("belongs to user %d, not to user %d, who is asking", st.Uid, os.Geteuid()),
		Hint: "name a directory of your own with --root DIR or SINTER_ROOT, or give this one to the user who is asking (chown)",
	}
}

// isMount reports whether dir is the root directory of a mount.
func isMount(dir string, st *unix.Stat_t) bool {
	var x unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BASIC_STATS, &x)
	if err == nil && x.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return x.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	// A kernel before 5.8.
	var up unix.Stat_t
	return unix.Stat(filepath.Join(dir, ".."), &up) == nil && up.Dev != st.Dev
}
