package network

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/seccomp"
)

// takeCall waits for a system call. It is nil when no process is left that could
// make one.
func takeCall(listener syscall.RawConn) (*notification, error) {
	var n *notification
	var err error
	rerr := listener.Read(func(fd uintptr) bool {
		for {
			// Taking a call blocks whatever the file is set to, so this looks before.
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, err = unix.Poll(poll, 0)
			switch events := poll[0].Revents; {
			case err == unix.EINTR:
				continue
			case err != nil:
				return true
			case events == 0:
				return false
			case events&unix.POLLIN == 0:
				return true
			}
			n = new(notification)
			if err = receive(int(fd), n); err != unix.ENOENT {
				return true
			}
			n = nil // who called has ended, or calls again after a signal
		}
	})
	return n, errors.Join(rerr, err)
}

// socketCall are the arguments of a socket(2).
type socketCall struct{ domain, kind, protocol int }

// make makes the socket as one without capabilities would. The kernel asks for those
// of a netlink socket's maker as well as for those of who writes to it: ours would
// let a privileged program that is made to write to it change the network.
func (c socketCall) make() (int, error) {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all [2]unix.CapUserData
	if err := unix.Capget(&header, &all[0]); err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	none := all
	none[0].Effective, none[1].Effective = 0, 0
	if err := unix.Capset(&header, &none[0]); err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	fd, err := unix.Socket(c.domain, c.kind|unix.SOCK_CLOEXEC, c.protocol)
	if cerr := unix.Capset(&header, &all[0]); cerr != nil {
		// The thread stays locked, and ends with its goroutine.
		unix.Close(fd)
		return -1, errors.Join(err, cerr)
	}
	runtime.UnlockOSThread()
	return fd, err
}

// answer makes the socket that a call asks for, or lets the kernel make it.
func answer(listener int, n *notification) error {
	call, errno := arguments(listener, n)
	if errno != 0 {
		return respond(listener, &response{id: n.id, error: -int32(errno)})
	}
	if !seccomp.Brokered(call.domain, call.kind, call.protocol) {
		// What the kernel then makes is in the command's own network, whatever
		// became of its arguments since.
		return respond(listener, &response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
	}
	fd, err := call.make()
	if err == nil {
		defer unix.Close(fd)
		err = giveTo(listener, n, fd)
	}
	if err == nil {
		err = addFile(listener, &addFD{
			id: n.id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, file: uint32(fd), newFlags: uint32(call.kind & unix.SOCK_CLOEXEC),
		})
	}
	if errors.As(err, &errno) {
		return respond(listener, &response{id: n.id, error: -int32(errno)})
	}
	return err
}

// giveTo makes the caller's user the owner of a socket. Where sockets share a port
// (SO_REUSEPORT), and in the rules of a firewall, it is the owner that counts.
func giveTo(listener int, n *notification, socket int) error {
	// The directory of a process is its effective user's, whatever else there is not.
	var thread unix.Stat_t
	err := unix.Stat("/proc/"+strconv.FormatUint(uint64(n.pid), 10), &thread)
	switch {
	case !waits(listener, n.id):
		return unix.ESRCH // of another process: nobody gets this answer
	case err != nil:
		return unix.EACCES // hidden from this process
	case int(thread.Uid) == unix.Geteuid():
		return nil
	}
	return unix.Fchown(socket, int(thread.Uid), -1)
}

// arguments are those of a socket(2), or of a socketcall(2) for a socket.
func arguments(listener int, n *notification) (socketCall, unix.Errno) {
	if n.arch != unix.AUDIT_ARCH_I386 || n.call != socketcall386 {
		return socketCall{int(int32(n.args[0])), int(int32(n.args[1])), int(int32(n.args[2]))}, 0
	}
	var memory [12]byte
	local := []unix.Iovec{{Base: &memory[0]}}
	local[0].SetLen(len(memory))
	remote := []unix.RemoteIovec{{Base: uintptr(uint32(n.args[1])), Len: len(memory)}}
	read, err := unix.ProcessVMReadv(int(n.pid), local, remote, 0)
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		return socketCall{}, errno
	case read != len(memory):
		return socketCall{}, unix.EFAULT
	case !waits(listener, n.id):
		return socketCall{}, unix.ESRCH // of another process: nobody gets this answer
	}
	word := func(i int) int { return int(int32(binary.LittleEndian.Uint32(memory[4*i:]))) }
	return socketCall{word(0), word(1), word(2)}, 0
}

// socketcall386 is the number of socketcall(2) for 32-bit x86.
const socketcall386 = 102
