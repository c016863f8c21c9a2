package pid1

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LoopbackUp brings up the loopback interface of this thread's network namespace,
// a new one.
func LoopbackUp() error {
	fail := func(err error) error { return fmt.Errorf("bringing up the loopback interface: %w", err) }
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fail(err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fail(err)
	}
	return nil
}

// newSys makes a /sys that shows the network of the builder, which a command with a
// broker is not in. It is EPERM where that network belongs to others.
func (in *sandboxInit) newSys(attr int) (int, error) {
	if in.plan.Broker == 0 {
		return NewMount("sysfs", attr)
	}
	if in.plan.SysNetwork == 0 {
		return -1, unix.EPERM
	}
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the network namespace: %w", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(in.plan.SysNetwork, unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("entering the builder's network namespace: %w", err)
	}
	mount, err := NewMount("sysfs", attr)
	if serr := unix.Setns(own, unix.CLONE_NEWNET); serr != nil {
		return -1, fmt.Errorf("leaving the builder's network namespace: %w", serr)
	}
	return mount, err
}

// handover is the message that passes the listener of a seccomp filter to the
// builder. All of it is made before the fork but the number of the file.
type handover struct {
	flags   uintptr
	message unix.Msghdr
	part    unix.Iovec
	data    [1]byte
	control [4]uint64 // aligned as the kernel's struct cmsghdr
}

// newHandover makes the message for a filter that is loaded with flags.
func newHandover(flags uint32) *handover {
	h := &handover{flags: uintptr(flags) | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}
	h.part.Base = &h.data[0]
	h.part.SetLen(len(h.data))
	h.message.Iov = &h.part
	h.message.SetIovlen(1)
	h.message.Control = (*byte)(unsafe.Pointer(&h.control))
	h.message.SetControllen(unix.CmsgSpace(4))
	c := (*unix.Cmsghdr)(unsafe.Pointer(&h.control))
	c.Level, c.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	c.SetLen(unix.CmsgLen(4))
	return h
}

// fd is where the message has the number of the file.
//
//go:noinline
//go:norace
//go:nosplit
func (h *handover) fd() *int32 {
	return (*int32)(unsafe.Add(unsafe.Pointer(&h.control), unix.SizeofCmsghdr))
}
