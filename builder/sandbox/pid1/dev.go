package pid1

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// mountDev makes a /dev with the harmless devices, mounted one by one: the rest
// of the root is mounted without devices, so that a node made by a command or
// shipped by an image opens nothing, for root as well.
func (in *sandboxInit) mountDev() error {
	attr := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_STRICTATIME | unix.MOUNT_ATTR_NODEV
	if in.plan.Insecure {
		attr &^= unix.MOUNT_ATTR_NODEV
	}
	dev, err := NewMount("tmpfs", attr, "mode=755", "size=65536k")
	if err != nil {
		return fmt.Errorf("mounting /dev: %w", err)
	}
	if err := in.mountSystem(dev, "/dev"); err != nil {
		return err
	}
	root, err := openBelow(in.root, "/dev", unix.O_PATH)
	if err != nil {
		return fmt.Errorf("opening /dev: %w", err)
	}
	defer unix.Close(root)
	if in.devices, err = in.harmlessDevices(); err != nil {
		return fmt.Errorf("making devices: %w", err)
	}
	for _, d := range harmless {
		if err := in.device(root, d.name); err != nil {
			return fmt.Errorf("mounting /dev/%s: %w", d.name, err)
		}
	}
	if in.plan.Insecure && !in.plan.UserNS {
		if err := insecureDevices(root); err != nil {
			return err
		}
	}
	if err := in.devMounts(root); err != nil {
		return err
	}
	links := map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	}
	if unix.Access("/proc/kcore", unix.F_OK) == nil { // not every kernel has it
		links["core"] = "/proc/kcore"
	}
	for name, target := range links {
		if err := unix.Symlinkat(target, root, name); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	return nil
}

// harmless are the devices that every command has, with their minor numbers.
var harmless = [...]struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// harmlessDevices opens a directory that has the harmless devices. Where they
// cannot be made, as in a user namespace, it is the host's /dev.
func (in *sandboxInit) harmlessDevices() (int, error) {
	if in.plan.UserNS {
		return in.borrowDevices()
	}
	mount, err := NewMount("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "mode=755", "size=65536k")
	if err != nil {
		return -1, err
	}
	for _, d := range harmless {
		err := unix.Mknodat(mount, d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor)))
		if errors.Is(err, unix.EPERM) {
			unix.Close(mount)
			return in.borrowDevices()
		}
		if err != nil {
			unix.Close(mount)
			return -1, fmt.Errorf("making device %s: %w", d.name, err)
		}
	}
	return in.onStage(mount)
}

func (in *sandboxInit) borrowDevices() (int, error) {
	in.borrowed = true
	return openPath("/dev")
}

// clonedDevice returns a mount of a harmless device. One of the host's is
// read-only: it can be written to, but its owner, mode and times stay.
func (in *sandboxInit) clonedDevice(name string) (int, error) {
	mount, err := unix.OpenTree(in.devices, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil || !in.borrowed {
		return mount, err
	}
	if err := restrict(mount, foreignDevice); err != nil {
		unix.Close(mount)
		return -1, tooOld("mount_setattr", err)
	}
	return mount, nil
}

// foreignDevice are the attributes of a mount of a device node of the host.
const foreignDevice = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// device shows a device.
func (in *sandboxInit) device(dev int, name string) error {
	mount, err := in.clonedDevice(name)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0o666)
	if err != nil {
		unix.Close(mount)
		return err
	}
	defer unix.Close(fd)
	return attach(mount, fd)
}

// mountsAt reports whether a mount of the command's has exactly this place.
func (p *Plan) mountsAt(dest string) bool {
	return slices.ContainsFunc(p.Mounts, func(m Mount) bool { return path.Clean(m.Dest) == dest })
}

// devMounts mounts terminals, shared memory and message queues.
func (in *sandboxInit) devMounts(dev int) error {
	pts := []string{"newinstance", "ptmxmode=0666", "mode=0620"}
	if in.plan.TTYGroup {
		pts = append(pts, "gid=5")
	}
	data := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NODEV
	for _, m := range []struct {
		name, fstype string
		attr         int
		options      []string
	}{
		{"pts", "devpts", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, pts},
		{"shm", "tmpfs", data, []string{"source=shm", "mode=1777", "size=65536k"}},
		{"mqueue", "mqueue", data, nil},
	} {
		if in.plan.mountsAt("/dev/" + m.name) {
			// The directory is there for the mount that is asked for.
			if err := unix.Mkdirat(dev, m.name, 0o1777); err != nil {
				return fmt.Errorf("making /dev/%s: %w", m.name, err)
			}
			continue
		}
		mount, err := NewMount(m.fstype, m.attr, m.options...)
		if m.fstype == "mqueue" && errors.Is(err, unix.ENODEV) {
			continue // the kernel is built without it
		}
		if err != nil {
			return fmt.Errorf("mounting /dev/%s: %w", m.name, err)
		}
		if err := unix.Mkdirat(dev, m.name, 0o755); err != nil {
			unix.Close(mount)
			return fmt.Errorf("making /dev/%s: %w", m.name, err)
		}
		target, err := unix.Openat(dev, m.name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			unix.Close(mount)
			return fmt.Errorf("opening /dev/%s: %w", m.name, err)
		}
		err = attach(mount, target)
		unix.Close(target)
		if err != nil {
			return fmt.Errorf("mounting /dev/%s: %w", m.name, err)
		}
	}
	return nil
}

// insecureDevices makes those devices that BuildKit gives to RUN
// --security=insecure.
func insecureDevices(dev int) error {
	type node struct {
		name         string
		mode         uint32
		major, minor uint32
	}
	nodes := []node{
		{"kmsg", unix.S_IFCHR, 1, 11}, {"cuse", unix.S_IFCHR, 10, 203}, {"fuse", unix.S_IFCHR, 10, 229},
		{"kvm", unix.S_IFCHR, 10, 232}, {"net/tun", unix.S_IFCHR, 10, 200}, {"loop-control", unix.S_IFCHR, 10, 237},
	}
	for i := range freeLoop() + 8 {
		nodes = append(nodes, node{fmt.Sprintf("loop%d", i), unix.S_IFBLK, 7, i})
	}
	if err := unix.Mkdirat(dev, "net", 0o755); err != nil {
		return fmt.Errorf("making /dev/net: %w", err)
	}
	for _, n := range nodes {
		if err := unix.Mknodat(dev, n.name, n.mode|0o666, int(unix.Mkdev(n.major, n.minor))); err != nil {
			return fmt.Errorf("making device /dev/%s: %w", n.name, err)
		}
	}
	return nil
}

// freeLoop returns the number of the first loop device that is free; 0 when it
// cannot be told.
func freeLoop() uint32 {
	fd, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	n, err := unix.IoctlRetInt(fd, unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// mask hides what shows the host or reaches into it, as docker does.
func (in *sandboxInit) mask() error {
	empty := -1
	for _, name := range []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	} {
		target, err := openBelow(in.root, name, unix.O_PATH)
		if err != nil {
			if ignoreMissing(err) == nil {
				continue
			}
			return fmt.Errorf("hiding %s: %w", name, err)
		}
		err = in.hide(target, &empty)
		unix.Close(target)
		if err != nil {
			return fmt.Errorf("hiding %s: %w", name, err)
		}
	}
	if empty >= 0 {
		unix.Close(empty)
	}
	return nil
}

// hide covers a file with /dev/null, and a directory with an empty one.
func (in *sandboxInit) hide(target int, empty *int) error {
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		mount, err := in.clonedDevice("null")
		if err != nil {
			return err
		}
		return attach(mount, target)
	}
	if *empty < 0 {
		at, err := in.newStageDir()
		if err != nil {
			return err
		}
		if err := unix.Chmod(at, 0o1777); err != nil { // as runc's
			return err
		}
		if *empty, err = openPath(at); err != nil {
			return err
		}
	}
	mount, err := clone(*empty)
	if err != nil {
		return err
	}
	if err := restrict(mount, unix.MOUNT_ATTR_RDONLY|inert); err != nil {
		unix.Close(mount)
		return err
	}
	return attach(mount, target)
}
