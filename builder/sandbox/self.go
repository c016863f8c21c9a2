package sandbox

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

const (
	initName = "sinter-init"
	selfName = "sinter-self"
)

// self is a copy of our binary that nobody can write to: the init runs from it,
// so that a command which reaches the init's executable cannot change ours.
var self = sync.OnceValues(sealSelf)

func sealSelf() (_ *os.File, err error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("opening our own binary: %w", err)
	}
	defer src.Close()
	fd, err := unix.MemfdCreate(selfName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("copying our own binary: %w", err)
	}
	f := os.NewFile(uintptr(fd), selfName)
	if err := fillSelf(f, src); err != nil {
		f.Close()
		return nil, fmt.Errorf("copying our own binary: %w", err)
	}
	return f, nil
}

func fillSelf(f, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	left := info.Size()
	for left > 0 {
		n, err := unix.Sendfile(int(f.Fd()), int(src.Fd()), nil, int(left))
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		left -= int64(n)
	}
	if err := f.Chmod(0o555); err != nil {
		return err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return err
}

// Dispatch is what a program that runs commands calls first: it does the work
// of a process that the sandbox started. It says whether that was all there is
// to do. A process in a new user namespace has its own work before it.
func Dispatch() bool {
	switch os.Args[0] {
	case initName:
		initMain()
		return true
	case userns.Name:
		if err := userns.Continue(); err != nil {
			// Nobody above could tell this from the program's own output.
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return false
	}
	// A command that starts its init's executable gets nothing of the builder.
	if exe, err := os.Readlink("/proc/self/exe"); err == nil && strings.HasPrefix(exe, "/memfd:"+selfName) {
		os.Exit(126)
	}
	return false
}
