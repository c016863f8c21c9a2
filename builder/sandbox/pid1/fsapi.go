package pid1

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The attributes of mounts that carry data and nothing to run.
const inert = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// NewMount makes a mount that is not attached anywhere. Options are "key=value"
// or flags; one with a leading "?" may be unknown to the kernel.
func NewMount(fstype string, attr int, options ...string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("opening file system %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	// The name that mount(8) shows as the source: as runc has it, the type.
	if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "source=") }) {
		if err := setOption(fs, "source="+fstype); err != nil {
			return -1, fmt.Errorf("naming file system %s: %w", fstype, err)
		}
	}
	for _, o := range options {
		o, optional := strings.CutPrefix(o, "?")
		if err := setOption(fs, o); err != nil && !optional {
			return -1, fmt.Errorf("file system %s, option %s: %w%s", fstype, o, err, kernelLog(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("making file system %s: %w%s", fstype, err, kernelLog(fs))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, fmt.Errorf("mounting file system %s: %w%s", fstype, err, kernelLog(fs))
	}
	return fd, nil
}

func setOption(fs int, option string) error {
	if key, value, ok := strings.Cut(option, "="); ok {
		return unix.FsconfigSetString(fs, key, value)
	}
	return unix.FsconfigSetFlag(fs, option)
}

// kernelLog returns what the kernel has to say about a failed mount.
func kernelLog(fs int) string {
	var b strings.Builder
	buf := make([]byte, 1024)
	for {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			return b.String()
		}
		// Each message begins with its level: "e overlay: …".
		line := strings.TrimSpace(string(buf[:n]))
		if len(line) > 2 && line[1] == ' ' {
			line = line[2:]
		}
		b.WriteString(": " + line)
	}
}

// attach puts a mount on an open directory or file, and closes the mount.
func attach(mount, target int) error {
	defer unix.Close(mount)
	return unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// clone makes a mount of what is open, with everything mounted below it.
func clone(fd int) (int, error) {
	return unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
}

// restrict adds attributes to a mount and all below it.
func restrict(mount int, attr uint64) error {
	return unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr})
}

// openBelow opens a path below a directory as if that were the root: no link
// leads out of it. Symlinks are followed.
func openBelow(dir int, path string, flags uint64) (int, error) {
	if path == "" {
		path = "/"
	}
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		// EAGAIN: something was renamed meanwhile.
		if fd, err := unix.Openat2(dir, path, &how); err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// errNotRegular is a file that has to be a regular one.
var errNotRegular = errors.New("not a regular file")

// readBelow reads a regular file below a directory, as openBelow finds it, up to
// a limit in bytes. Anything else, such as a FIFO or a device, is an error, and is
// not waited for.
func readBelow(dir int, path string, limit int) ([]byte, error) {
	at, err := openBelow(dir, path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return nil, unix.EISDIR
	default:
		return nil, errNotRegular
	}
	// Files of the kernel look regular, but reading one may have an effect, or
	// not end: /proc/kmsg.
	if system, err := inSystem(at); system || err != nil {
		return nil, cmp.Or(err, errNotRegular)
	}
	// Not blocking: another command may have put a FIFO there since.
	fd, err := openBelow(dir, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	data := make([]byte, min(int(min(st.Size, int64(limit)))+1, limit))
	for n := 0; ; {
		got, err := unix.Read(fd, data[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		n += got
		if got == 0 || n == limit {
			return data[:n], nil
		}
		if n == len(data) {
			data = append(data, make([]byte, min(len(data), limit-n))...)
		}
	}
}

// inSystem reports whether a file is one of the kernel's: of /proc or /sys.
func inSystem(fd int) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false, err
	}
	return slices.Contains([]int64{
		unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC,
	}, int64(st.Type)), nil
}

// statBelow looks at a file below a directory, as openBelow finds it.
func statBelow(dir int, path string) (st unix.Stat_t, err error) {
	fd, err := openBelow(dir, path, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// openPath opens an absolute path for use as a name only.
func openPath(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", path, err)
	}
	return fd, nil
}

// fdPath is a short name for an open file, as mount options need.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
