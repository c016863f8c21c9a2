package inside

import (
	"fmt"
	"syscall"
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

// enterNetwork moves all threads, and with this one the command, to the network
// namespace that the plan gives: /proc/1/task shows everybody the network of each
// thread, with the names of its abstract sockets, and to root the files by which some
// modules are controlled. In a binary with cgo, Go moves no other thread.
func (in *sandboxInit) enterNetwork() error {
	if in.plan.Network <= 0 {
		return nil
	}
	_, _, err := syscall.AllThreadsSyscall(unix.SYS_SETNS, uintptr(in.plan.Network), unix.CLONE_NEWNET, 0)
	if err == unix.ENOTSUP {
		_, _, err = syscall.RawSyscall(unix.SYS_SETNS, uintptr(in.plan.Network), unix.CLONE_NEWNET, 0)
	}
	if err != 0 {
		return fmt.Errorf("entering the network namespace: %w", err)
	}
	return nil
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
