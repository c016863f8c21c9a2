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

func ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	for {
		result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return int(result), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// receive takes the next system call that waits. It is ENOENT when that has gone.
func receive(listener int, n *notification) error {
	*n = notification{}
	_, err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
	return err
}

// respond answers a call. That nobody waits for the answer any more is not a
// failure: who called has ended, or calls again after a signal.
func respond(listener int, r *response) error {
	_, err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINPROGRESS) {
		return nil
	}
	return err
}

// addFile gives the caller an open file, and returns its number there. The call
// still waits for its answer.
func addFile(listener int, a *addFD) (int, error) {
	return ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(a))
}

// sendFile gives the caller an open file, whose number is its answer, in one step.
// Whatever interrupts this thread in between makes the kernel (6.18 too) let the
// call return 0 without a file, so no signal may; SIGSTOP cannot be held back.
func sendFile(listener int, a *addFD) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = math.MaxUint64
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return err
	}
	a.flags |= unix.SECCOMP_ADDFD_FLAG_SEND
	_, err := addFile(listener, a)
	return errors.Join(err, unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil))
}

// waits reports whether a system call still waits for its answer: its thread has
// not ended, and no other has its number.
func waits(listener int, id uint64) bool {
	_, err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id))
	return err == nil
}
