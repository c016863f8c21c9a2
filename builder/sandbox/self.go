package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers/hint"
)

// Dispatch is what a program that runs commands calls first. A process in a new
// user namespace becomes root there, and then has its own work to do; one that is
// not the program's own ends here. The init itself does not come this far (see
// inside).
func Dispatch() {
	if os.Args[0] == userns.Name {
		if err := userns.Continue(); err != nil {
			// Nobody above could tell this from the program's own output.
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	// A command that starts its init's executable gets nothing of the builder.
	if startedByCommand() {
		os.Exit(126)
	}
}

// startedByCommand says that a command found a way to its init's executable:
// that is not in the root, where one that was put there would be.
func startedByCommand() bool {
	cmdline, err := os.ReadFile("/proc/1/cmdline")
	if err != nil || !bytes.HasPrefix(cmdline, []byte(pid1.Name+"\x00")) {
		return false
	}
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return false
	}
	found, err := os.Stat(exe)
	return err != nil || !os.SameFile(own, found)
}

// self is our own binary in a form that nobody can write to: the init runs from
// it, so a command that reaches the init's executable cannot change ours.
var self = sync.OnceValues(func() (*os.File, error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, hint.Add(fmt.Errorf("opening our own binary: %w", err), "RUN needs /proc: mount -t proc proc /proc")
	}
	defer src.Close()
	if f, err := overlaySelf(src); err == nil {
		return f, nil
	}
	f, err := copySelf(src)
	if err != nil {
		return nil, fmt.Errorf("copying our own binary: %w", err)
	}
	return f, nil
})

// selfCommand is how self is started, with files from number 3 on. It is one of
// these files itself: under its number here it would be gone in the child as
// soon as there are as many of them.
func selfCommand(ctx context.Context, files []*os.File) (*exec.Cmd, error) {
	binary, err := self()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", 3+len(files)))
	cmd.ExtraFiles = append(files[:len(files):len(files)], binary)
	return cmd, nil
}

// overlaySelf opens the binary through an overlay that has nothing to write to
// and is mounted nowhere. That costs nothing; a copy costs 15 ms.
func overlaySelf(src *os.File) (*os.File, error) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	dir, err := unix.Open(filepath.Dir(exe), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	// Overlay wants a second directory.
	empty, err := pid1.NewMount("tmpfs", unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(empty)
	mount, err := pid1.NewMount("overlay", unix.MOUNT_ATTR_RDONLY, fmt.Sprintf("lowerdir=/proc/self/fd/%d:/proc/self/fd/%d", dir, empty))
	if err != nil {
		return nil, err
	}
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, filepath.Base(exe), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), exe)
	if err := sameFile(f, src, exe); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sameFile makes sure that no other file took the name of our binary since we
// were started: f was opened by that name. An overlay has its own numbers for
// files, so this compares the file below it.
func sameFile(f, src *os.File, name string) error {
	own, err := src.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(name)
	if err != nil {
		return err
	}
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(own, named) || opened.Size() != own.Size() || !opened.ModTime().Equal(own.ModTime()) {
		return fmt.Errorf("%s is no longer our own binary", name)
	}
	return nil
}

// copySelf copies the binary into memory and seals that.
func copySelf(src *os.File) (*os.File, error) {
	info, err := src.Stat()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("sinter", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "sinter")
	for left := info.Size(); left > 0; {
		n, err := unix.Sendfile(fd, int(src.Fd()), nil, int(left))
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		left -= int64(n)
	}
	err = f.Chmod(0o555)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
