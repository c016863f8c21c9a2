package pid1

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// TmpfsName is os.Args[0] of the process that makes file systems in memory for
// the init of a command (see the sandbox's giveTmpfs); further arguments are their sizes in
// bytes, 0 for no limit.
const TmpfsName = "sinter-tmpfs"

// TmpfsFD is the socket over which that process passes them on.
const TmpfsFD = 3

// MaxTmpfs is how many can be passed on at once.
const MaxTmpfs = 100

// tmpfsMain makes file systems in memory and passes them on. It runs in a user
// namespace of its own: on a file system made there, the kernel opens no device
// node, though nothing of the mount says so. So a command sees what it would see
// with BuildKit, where a device cgroup keeps it from devices.
func tmpfsMain() {
	if err := sendTmpfs(TmpfsFD, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func sendTmpfs(socket int, sizes []string) error {
	var fds []int
	for _, s := range sizes {
		size, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return err
		}
		fd, err := NewMount("tmpfs", unix.MOUNT_ATTR_NOSUID, tmpfsOptions(size)...)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	return unix.Sendmsg(socket, []byte{0}, unix.UnixRights(fds...), nil, 0)
}

func tmpfsOptions(size int64) []string {
	if size <= 0 {
		return nil
	}
	return []string{fmt.Sprintf("size=%d", size)}
}

// newTmpfs returns the file system that was made for a mount, or makes one.
func (in *sandboxInit) newTmpfs(m *Mount) (int, error) {
	if m.FD > 0 {
		return m.FD, nil
	}
	attr := unix.MOUNT_ATTR_NOSUID
	if !in.plan.UserNS && !in.plan.Insecure {
		// In a user namespace the kernel sees to that itself.
		attr |= unix.MOUNT_ATTR_NODEV
	}
	return NewMount("tmpfs", attr, tmpfsOptions(m.Size)...)
}

// mountTmpfs mounts an empty directory in memory. As with runc, it takes the
// mode of the directory that it hides.
func (in *sandboxInit) mountTmpfs(m *Mount) error {
	before := in.points.count
	target, err := in.points.open(m.Dest, true)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	mount, err := in.newTmpfs(m)
	if err != nil {
		return err
	}
	mode := uint32(0o1777)
	if in.points.count == before {
		var st unix.Stat_t
		if err := unix.Fstat(target, &st); err != nil {
			unix.Close(mount)
			return err
		}
		mode = st.Mode & 0o7777
	}
	// By chmod: the mode would be listed as an option of the mount.
	if err := unix.Fchmodat(mount, ".", mode, 0); err != nil {
		unix.Close(mount)
		return err
	}
	if m.ReadOnly {
		if err := restrict(mount, unix.MOUNT_ATTR_RDONLY); err != nil {
			unix.Close(mount)
			return err
		}
	}
	return attach(mount, target)
}
