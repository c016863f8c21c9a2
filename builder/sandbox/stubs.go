package sandbox

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// removeStubs removes from the upper directory the mount points that the init
// made, children first, unless the command put something there. The root is no
// longer mounted. Directories keep their times.
func removeStubs(upper string, made []string) error {
	if len(made) == 0 {
		return nil
	}
	dir, err := unix.Open(upper, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", upper, err)
	}
	defer unix.Close(dir)
	for i := len(made) - 1; i >= 0; i-- {
		removeStub(dir, strings.TrimPrefix(made[i], "/"))
	}
	return nil
}

// removeStub removes one mount point; one that is no longer what we made stays.
func removeStub(dir int, name string) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	parent, err := unix.Openat2(dir, path.Dir(name), &how)
	if err != nil {
		return
	}
	defer unix.Close(parent)
	var above, st unix.Stat_t
	base := path.Base(name)
	if unix.Fstat(parent, &above) != nil || unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
	case unix.S_IFREG:
		if st.Size != 0 {
			return
		}
		err = unix.Unlinkat(parent, base, 0)
	default:
		return
	}
	if err == nil {
		unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", parent), []unix.Timespec{above.Atim, above.Mtim}, 0)
	}
}
