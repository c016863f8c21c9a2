package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Continue makes the process that Reexec has started root of its user
// namespace, with mounts of its own that do not reach the rest of the machine.
// The user's supplementary groups stay, for they may be what gives access to
// the files of a build; a sandbox has to set those of its command.
func Continue() error {
	number, err := strconv.Atoi(os.Getenv(beginEnv))
	if err = errors.Join(err, os.Unsetenv(beginEnv)); err != nil {
		return fmt.Errorf("user namespace: finding its file: %w", err)
	}
	begin := os.NewFile(uintptr(number), "begin")
	_, err = io.ReadFull(begin, make([]byte, 1))
	if err = errors.Join(err, begin.Close()); err != nil {
		return fmt.Errorf("user namespace: waiting for its ids: %w", err)
	}
	if err := syscall.Setresgid(0, 0, 0); err != nil {
		return fmt.Errorf("user namespace: becoming root's group: %w", err)
	}
	if err := syscall.Setresuid(0, 0, 0); err != nil {
		return fmt.Errorf("user namespace: becoming root: %w", err)
	}
	if err := dropInheritable(); err != nil {
		return fmt.Errorf("user namespace: setting capabilities: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return refused(fmt.Errorf("making mounts private: %w", err))
	}
	return nil
}

// dropInheritable empties the inheritable capabilities, and with them the
// ambient ones, which were there for one execve: programs started from here
// have what they have by being root.
func dropInheritable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno == unix.ENOTSUP {
		// A program linked with C, as under the race detector, cannot do this
		// to all of its threads.
		return unix.Capset(&header, &data[0])
	}
	if errno != 0 {
		return errno
	}
	return nil
}
