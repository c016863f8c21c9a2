package network

import (
	"errors"
	"math"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's structs of include/uapi/linux/seccomp.h.
type (
	// notification is a system call that waits for an answer.
	notification struct {
		id    uint64
		pid   uint32 // of the calling thread, as this process sees it
		flags uint32
		call  int32
		arch  uint32
		_     uint64 // the instruction pointer
		args  [6]uint64
	}
	// response answers one.
	response struct {
		id    uint64
		value int64
		error int32
		flags uint32
	}
	// addFD gives the caller an open file.
	addFD struct {
		id       uint64
		flags    uint32
		file     uint32
		newFile  uint32
		newFlags uint32
	}
	// sizes are those that the running kernel has.
	sizes struct{ notification, response, data uint16 }
)

// checkSizes makes sure that the kernel's structs are not larger than ours.
func checkSizes() error {
	var s sizes
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&s))); errno != 0 {
		return errno
	}
	if uintptr(s.notification) > unsafe.Sizeof(notification{}) || uintptr(s.response) > unsafe.Sizeof(response{}) {
		return errors.New("this kernel asks in a way that is not known")
	}
	return nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// receive takes the next system call that waits. It is ENOENT when that has gone.
func receive(listener int, n *notification) error {
	*n = notification{}
	return ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
}

// respond answers a call. That nobody waits for the answer any more is no failure:
// who called has ended, or calls again after a signal.
func respond(listener int, r *response) error {
	err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINPROGRESS) {
		return nil
	}
	return err
}

// addFile gives the caller an open file. With SECCOMP_ADDFD_FLAG_SEND, the call
// returns its number; then a signal for this thread must not come in between: the
// kernel (6.18 too) would let the call return 0 without a file.
func addFile(listener int, a *addFD) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = math.MaxUint64
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return err
	}
	err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(a))
	return errors.Join(err, unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil))
}

// waits reports whether a system call still waits for its answer: its thread has
// not ended, and no other has its number.
func waits(listener int, id uint64) bool {
	return ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == nil
}
