package pid1

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

// mountAll mounts what every command sees, then the command's own mounts in their
// order, and covers what no command shall see.
func (in *sandboxInit) mountAll() error {
	for _, f := range []func() error{in.mountProc, in.mountDev, in.mountSys, in.mountEtc, in.configureApt} {
		if err := f(); err != nil {
			return err
		}
	}
	for i := range in.plan.Mounts {
		m := &in.plan.Mounts[i]
		if err := in.mountOne(m); err != nil {
			return fmt.Errorf("mounting %s at %s: %w", m.Type, m.Dest, err)
		}
	}
	defer unix.Close(in.devices)
	if in.plan.Insecure {
		return nil
	}
	for _, name := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if err := in.readOnly(name); err != nil {
			return fmt.Errorf("making %s read-only: %w", name, err)
		}
	}
	return in.mask()
}

func (in *sandboxInit) mountOne(m *Mount) error {
	if m.Type == MountTmpfs {
		return in.mountTmpfs(m)
	}
	mount, dir, err := in.source(m)
	if err != nil {
		return err
	}
	attr := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	switch {
	case m.Type == MountSecret:
		attr = inert | unix.MOUNT_ATTR_RDONLY
	case m.Type == MountDevice:
		attr = foreignDevice
	case in.plan.Insecure:
		attr = 0
	}
	if m.ReadOnly {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	if err := restrict(mount, attr); err != nil {
		unix.Close(mount)
		return err
	}
	return in.mountAt(mount, m.Dest, dir)
}

// mountAt puts a mount on a path of the root, and closes it.
func (in *sandboxInit) mountAt(mount int, dest string, dir bool) error {
	target, err := in.points.open(dest, dir)
	if err != nil {
		unix.Close(mount)
		return err
	}
	defer unix.Close(target)
	return attach(mount, target)
}

// mountSystem puts /proc, /sys or /dev on the root, and closes the mount. Where
// the root has no such directory, the one made stays in the layer, as with
// BuildKit: every image needs it to run.
func (in *sandboxInit) mountSystem(mount int, dest string) error {
	made := in.points.made
	// As with runc, /dev may be a link and the others may not.
	var st unix.Stat_t
	if err := unix.Fstatat(in.root, strings.TrimPrefix(dest, "/"), &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK && dest != "/dev" {
		unix.Close(mount)
		return hint.Add(
			fmt.Errorf("mounting %s: the image has a symbolic link there", dest),
			"make it a directory: "+dest+" is mounted for every command",
		)
	}
	if err := in.mountAt(mount, dest, true); err != nil {
		return fmt.Errorf("mounting %s: %w", dest, err)
	}
	// BuildKit takes it away when the command has a mount inside.
	if !slices.ContainsFunc(in.plan.Mounts, func(m Mount) bool { return strings.HasPrefix(path.Clean(m.Dest), dest+"/") }) {
		in.points.made = made
	}
	return nil
}

// source returns a mount of what is to be seen, and whether it is a directory.
func (in *sandboxInit) source(m *Mount) (mount int, dir bool, err error) {
	var base int
	switch {
	case m.Type == MountSecret:
		base, err = in.secret(m)
	case m.Source != "":
		base, err = openPath(m.Source)
	default:
		base, err = in.stageDirs(m)
	}
	if err != nil {
		return -1, false, err
	}
	defer unix.Close(base)
	from := base
	if m.Selector != "" && m.Type != MountSecret {
		from, err = openBelow(base, m.Selector, unix.O_PATH)
		if err != nil {
			return -1, false, fmt.Errorf("%s: %w", m.Selector, err)
		}
		defer unix.Close(from)
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return -1, false, err
	}
	mount, err = clone(from)
	return mount, st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// stageDirs mounts a stage's directories away from the root, and opens that.
func (in *sandboxInit) stageDirs(m *Mount) (int, error) {
	upper, work := m.Upper, m.Work
	if m.ReadOnly {
		upper, work = "", ""
	}
	mount, err := in.overlay(m.Lower, upper, work, 0)
	if err != nil {
		return -1, err
	}
	return in.onStage(mount)
}

// onStage puts a mount on a directory of the stage, with which it goes in the end,
// and opens it there. The mount is closed.
func (in *sandboxInit) onStage(mount int) (int, error) {
	at, err := in.newStageDir()
	if err != nil {
		unix.Close(mount)
		return -1, err
	}
	target, err := openPath(at)
	if err != nil {
		unix.Close(mount)
		return -1, err
	}
	defer unix.Close(target)
	if err := attach(mount, target); err != nil {
		return -1, err
	}
	return openPath(at)
}

// secret puts a secret into memory. Of its mode only permissions count, as with
// BuildKit.
func (in *sandboxInit) secret(m *Mount) (int, error) {
	in.dirs++
	name := in.stage("secret" + strconv.Itoa(in.dirs))
	if err := in.writeStage(name, m.Data, m.Mode&0o777, m.UID, m.GID); err != nil {
		return -1, err
	}
	return openPath(name)
}

// writeStage makes a file on the stage.
func (in *sandboxInit) writeStage(name string, data []byte, mode uint32, uid, gid int) error {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if uid != 0 || gid != 0 {
		// One user is all there is: the file is theirs already.
		if err := unix.Fchown(fd, uid, gid); err != nil && !in.plan.Single {
			return fmt.Errorf("giving it to %d:%d: %w", uid, gid, err)
		}
	}
	return unix.Fchmod(fd, mode&0o7777)
}

// mountEtc gives the command names of hosts, outside of any layer.
func (in *sandboxInit) mountEtc() error {
	files := []struct {
		dest string
		data []byte
	}{{"/etc/resolv.conf", in.plan.ResolvConf}, {"/etc/hosts", in.plan.Hosts}}
	for _, f := range files {
		name := in.stage(strings.TrimPrefix(f.dest, "/etc/"))
		err := in.writeStage(name, f.data, 0o644, 0, 0)
		if err == nil {
			err = in.bindFile(name, f.dest, inert|unix.MOUNT_ATTR_RDONLY)
		}
		if err != nil {
			return fmt.Errorf("mounting %s: %w", f.dest, err)
		}
	}
	return nil
}

// bindFile shows a file of ours at a path of the root.
func (in *sandboxInit) bindFile(name, dest string, attr uint64) error {
	mount, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	if attr != 0 {
		if err := restrict(mount, attr); err != nil {
			unix.Close(mount)
			return tooOld("mount_setattr", err)
		}
	}
	return in.mountAt(mount, dest, false)
}

// mountProc mounts a /proc of this namespace. Where a surrounding container
// hides parts of its own, the kernel refuses that; then we show what there is, to
// look at only: it has the processes of that container.
func (in *sandboxInit) mountProc() error {
	mount, err := NewMount("proc", inert)
	if errors.Is(err, unix.EPERM) {
		mount, err = in.outerProc()
	}
	if err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return in.mountSystem(mount, "/proc")
}

func (in *sandboxInit) outerProc() (int, error) {
	open := func() (int, error) {
		return unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	}
	if in.plan.Single {
		var err error
		if in.idMaps, err = open(); err != nil {
			return -1, err
		}
	}
	mount, err := open()
	if err != nil {
		return -1, err
	}
	if err := restrict(mount, inert|unix.MOUNT_ATTR_RDONLY); err != nil {
		unix.Close(mount)
		return -1, tooOld("mount_setattr", err)
	}
	return mount, nil
}

// readOnly makes a path read-only where it exists.
func (in *sandboxInit) readOnly(name string) error {
	fd, err := openBelow(in.root, name, unix.O_PATH)
	if err != nil {
		return ignoreMissing(err)
	}
	defer unix.Close(fd)
	mount, err := clone(fd)
	if err != nil {
		return err
	}
	if err := restrict(mount, unix.MOUNT_ATTR_RDONLY|inert); err != nil {
		unix.Close(mount)
		return err
	}
	return attach(mount, fd)
}

// mountSys mounts /sys, and the control groups in it, to look at only. It needs
// a network namespace of our own: without one we show the host's.
func (in *sandboxInit) mountSys() error {
	attr := inert | unix.MOUNT_ATTR_RDONLY
	if in.plan.Insecure {
		attr = inert
	}
	mount, err := in.newSys(attr)
	own := err == nil
	if errors.Is(err, unix.EPERM) {
		mount, err = unix.OpenTree(unix.AT_FDCWD, "/sys", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err == nil {
			err = restrict(mount, uint64(attr))
		}
	}
	if err != nil {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	if err := in.mountSystem(mount, "/sys"); err != nil {
		return err
	}
	if !own {
		return nil
	}
	return in.mountCgroups(uint64(attr))
}

const cgroupDir = "/sys/fs/cgroup"

// mountCgroups shows the host's control groups where there are any.
func (in *sandboxInit) mountCgroups(attr uint64) error {
	target, err := openBelow(in.root, cgroupDir, unix.O_PATH)
	if err != nil {
		return ignoreMissing(err)
	}
	defer unix.Close(target)
	mount, err := unix.OpenTree(unix.AT_FDCWD, cgroupDir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return ignoreMissing(err)
	}
	if err := restrict(mount, attr); err != nil {
		unix.Close(mount)
		return fmt.Errorf("mounting %s: %w", cgroupDir, err)
	}
	return attach(mount, target)
}

func ignoreMissing(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}
