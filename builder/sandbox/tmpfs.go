package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/pid1"
)

// giveTmpfs has the file systems for a plan's tmpfs mounts made where the kernel
// keeps devices out of them (see pid1), and returns those that the init gets
// as open files from the number first on. Where that cannot be done, the init
// makes them itself, with a mount option that forbids devices.
func giveTmpfs(ctx context.Context, p *pid1.Plan, first int) (made []*os.File) {
	if p.UserNS || p.Insecure {
		return nil
	}
	var wanted []*pid1.Mount
	for i := range p.Mounts {
		if m := &p.Mounts[i]; m.Type == MountTmpfs && len(wanted) < pid1.MaxTmpfs {
			wanted = append(wanted, m)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	args := []string{pid1.TmpfsName}
	for _, m := range wanted {
		args = append(args, strconv.FormatInt(m.Size, 10))
	}
	made, err := makeTmpfs(ctx, args)
	if err != nil || len(made) != len(wanted) {
		closeAll(made)
		return nil
	}
	for i, m := range wanted {
		m.FD = first + i
	}
	return made
}

func makeTmpfs(ctx context.Context, args []string) ([]*os.File, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	cmd, err := selfCommand(ctx, []*os.File{pid1.TmpfsFD - 3: theirs})
	if err != nil {
		return nil, err
	}
	cmd.Args, cmd.Env = args, []string{"GOGC=off"}
	everybody := []syscall.SysProcIDMap{{Size: 1<<32 - 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: everybody, GidMappings: everybody, GidMappingsEnableSetgroups: true,
		Pdeathsig: unix.SIGKILL, // the caller's thread is locked
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("making file systems in memory: %w", err)
	}
	return receive(ours)
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// receive takes the open files that wait in a socket.
func receive(from *os.File) ([]*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(pid1.MaxTmpfs*4))
	_, n, _, _, err := unix.Recvmsg(int(from.Fd()), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("receiving open files: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, fmt.Errorf("receiving open files: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, perr := unix.ParseUnixRights(&messages[i])
		err = errors.Join(err, perr)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "tmpfs"))
		}
	}
	return files, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
