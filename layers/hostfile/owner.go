package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OwnerError is something that is not ours alone, as it has to be: somebody else
// owns it, or everybody can replace it.
type OwnerError struct {
	Path   string
	Reason string
	Hint   string
}

func (e *OwnerError) Error() string { return e.Path + " " + e.Reason }

// HintText says what to do about it.
func (e *OwnerError) HintText() string { return e.Hint }

// CheckOwner fails with an *OwnerError unless we can trust what is in dir: dir
// belongs to us or to root, it is not writable by everybody unless it is sticky, and
// those of entries that are there belong to us, also those that symlinks lead to.
// Groups, and the directories above dir, are not looked at. A dir that does not
// exist is fine.
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
		return foreignOwner(dir, &st, unix.Access(dir, unix.W_OK|unix.X_OK) == nil)
	}
	if st.Mode&unix.S_IWOTH != 0 && st.Mode&unix.S_ISVTX == 0 && !isMount(dir, &st) {
		return &OwnerError{
			Path: dir, Reason: "is writable by everybody, so anybody could replace what is in it",
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
			return foreignOwner(path, &st, false)
		}
	}
	return nil
}

func isOurs(st *unix.Stat_t) bool { return int(st.Uid) == os.Geteuid() }

// foreignOwner is the error of what is not ours. writable says that it is a
// directory in which we can make one of our own.
func foreignOwner(path string, st *unix.Stat_t, writable bool) error {
	user := os.Geteuid()
	return &OwnerError{
		Path: path, Reason: fmt.Sprintf("belongs to user %d, not to user %d, who runs sinter", st.Uid, user),
		Hint: ownerHint(path, st.Uid, user, writable),
	}
}

func ownerHint(path string, owner uint32, user int, writable bool) string {
	switch {
	case owner == overflowID:
		return "the file system does not show who owns its files: keep the store on a local one, with --root DIR or SINTER_ROOT"
	case user == 0:
		return "run sinter without sudo, or set SINTER_ROOT to a directory of root's"
	case writable:
		return "use a directory of your own below it: SINTER_ROOT=" + filepath.Join(path, "sinter")
	}
	return "name a directory of your own with --root DIR or SINTER_ROOT, or give this one to the user who runs sinter (chown)"
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
