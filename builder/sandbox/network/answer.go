package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/seccomp"
)

// takeCall waits for a system call. It is nil when no process is left that could
// make one.
//
// It does not leave the waiting to the runtime: a signal for this process (SIGSTOP
// too) at the wrong moment makes the kernel say POLLERR, which the runtime takes for
// a file that cannot be waited for.
func takeCall(listener int) (*notification, error) {
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		_, err := unix.Poll(poll, -1)
		switch events := poll[0].Revents; {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case events&unix.POLLIN != 0:
			// Who called may have ended, or calls again after a signal.
			n := new(notification)
			if err := receive(listener, n); !errors.Is(err, unix.ENOENT) {
				return n, err
			}
		case events&unix.POLLNVAL != 0:
			return nil, unix.EBADF
		case events&unix.POLLHUP != 0:
			return nil, nil
		}
	}
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

// answer makes the socket that a call asks for, or lets the kernel make it. killable
// says that only the end of its caller interrupts the call.
func answer(listener int, n *notification, killable bool) error {
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
	var ours error
	if errors.Is(err, unix.EMFILE) {
		// The limit is this process's, and nothing that the command could know.
		ours = fmt.Errorf("making a socket for the command: %w", err)
	}
	if err == nil {
		defer unix.Close(fd)
		err = own(listener, n, fd)
	}
	if err == nil {
		err = give(listener, &addFD{id: n.id, file: uint32(fd), newFlags: uint32(call.kind & unix.SOCK_CLOEXEC)}, killable)
	}
	if errors.As(err, &errno) {
		err = respond(listener, &response{id: n.id, error: -int32(errno)})
	}
	return errors.Join(err, ours)
}

// own makes the caller's user the owner of a socket. Where sockets share a port
// (SO_REUSEPORT), and in the rules of a firewall, it is the owner that counts.
func own(listener int, n *notification, socket int) error {
	if !ownProc() {
		return nil
	}
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

// ownProc reports whether /proc shows processes by the numbers that they have here: it
// may be that of a PID namespace around this one.
var ownProc = sync.OnceValue(func() bool {
	self, err := os.Readlink("/proc/self")
	return err == nil && self == strconv.Itoa(os.Getpid())
})

// give answers a call with an open file. In two steps nothing that interrupts this
// process does harm: neither a signal nor that it is stopped (Ctrl-Z, a debugger, the
// machine's sleep). A call that a signal interrupts would be left with a file that it
// does not know, though.
func give(listener int, file *addFD, killable bool) error {
	if !killable {
		return sendFile(listener, file)
	}
	number, err := addFile(listener, file)
	if err != nil {
		return err
	}
	return respond(listener, &response{id: file.id, value: int64(number)})
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
