package pid1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childStep is what the child was doing.
type childStep int32

const (
	stepSession childStep = iota
	stepSignals
	stepLimits
	stepUserNS
	stepBounding
	stepSeccomp
	stepHandover
	stepGroups
	stepUser
	stepCaps
	stepFakeRoot
	stepFiles
	stepExec
)

func (s childStep) String() string {
	return [...]string{
		"starting a session", "resetting signals", "setting limits", "making a user namespace",
		"limiting capabilities", "loading the seccomp filter", "passing on the filter's listener", "setting groups", "changing to the user",
		"setting capabilities", "loading the filter for one user", "closing files", "exec",
	}[s]
}

// childFailure is what the child says before it gives up.
type childFailure struct {
	errno syscall.Errno
	step  childStep
	// file is the executable that could not be started.
	file int32
}

const signals = 64

// kernelSigaction is the kernel's own struct; zero is the default action.
type kernelSigaction struct {
	handler, flags, restorer, mask uintptr
}

// fork starts the child. Only this thread exists there, so nothing may be
// allocated, no lock taken, no stack grown and no Go signal handler run until
// it execs: it only makes raw system calls, with all signals blocked.
//
//go:noinline
//go:norace
func (c *command) fork() (int, syscall.Errno) {
	var all, old uint64 = ^uint64(0), 0
	if _, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); e != 0 {
		return 0, e
	}
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
		return int(pid), errno
	}
	var f childFailure
	f.step, f.errno = c.child()
	f.file = c.tried
	syscall.RawSyscall(unix.SYS_WRITE, c.errPipe, uintptr(unsafe.Pointer(&f)), unsafe.Sizeof(f))
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 255, 0, 0)
	}
}

// child turns the forked process into the command. It returns only on failure.
//
// The order matters: the seccomp filter needs CAP_SYS_ADMIN, which the command
// does not get, because no_new_privs stays off as with docker.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) child() (childStep, syscall.Errno) {
	if _, _, e := syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0); e != 0 {
		return stepSession, e
	}
	if step, e := c.childSignals(); e != 0 {
		return step, e
	}
	for i := range c.limits {
		l := &c.limits[i]
		if _, _, e := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, uintptr(l.resource), uintptr(unsafe.Pointer(&l.limit)), 0, 0, 0); e != 0 {
			return stepLimits, e
		}
	}
	syscall.RawSyscall(unix.SYS_UMASK, 0o022, 0, 0)
	if step, e := c.childNest(); e != 0 {
		return step, e
	}
	if e := c.childFiles(); e != 0 {
		return stepFiles, e
	}
	for _, d := range c.drop {
		if _, _, e := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(d), 0); e != 0 {
			return stepBounding, e
		}
	}
	if step, e := c.childFilter(); e != 0 {
		return step, e
	}
	if step, e := c.childUser(); e != 0 {
		return step, e
	}
	if step, e := c.childFake(); e != 0 {
		return step, e
	}
	return c.childExec()
}

// childFiles closes all files but the standard three, the pipe, which is closed
// when the command starts, and the socket for the filter's listener. Nothing that
// the command's side names can lead through them then.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childFiles() syscall.Errno {
	next := uintptr(PlanFD)
	// The init has files of its own at the first two numbers.
	if _, _, e := syscall.RawSyscall(unix.SYS_DUP3, c.errPipe, next, unix.O_CLOEXEC); e != 0 {
		return e
	}
	c.errPipe = next
	next++
	if c.handover != nil {
		if _, _, e := syscall.RawSyscall(unix.SYS_DUP3, c.broker, next, unix.O_CLOEXEC); e != 0 {
			return e
		}
		c.broker = next
		next++
	}
	_, _, e := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, next, ^uintptr(0), 0)
	return e
}

// childFilter loads the seccomp filter, and passes its listener on: the command
// must not have it.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childFilter() (childStep, syscall.Errno) {
	if c.filter == nil {
		return 0, 0
	}
	var flags uintptr
	if c.handover != nil {
		flags = c.handover.flags
	}
	listener, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(c.filter)))
	if e != 0 {
		return stepSeccomp, e
	}
	if c.handover == nil {
		return 0, 0
	}
	*c.handover.fd() = int32(listener)
	if _, _, e := syscall.RawSyscall(unix.SYS_SENDMSG, c.broker, uintptr(unsafe.Pointer(&c.handover.message)), unix.MSG_NOSIGNAL); e != 0 {
		return stepHandover, e
	}
	syscall.RawSyscall(unix.SYS_CLOSE, listener, 0, 0)
	syscall.RawSyscall(unix.SYS_CLOSE, c.broker, 0, 0)
	return 0, 0
}

// childSignals gives all signals back their default, and unblocks them.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childSignals() (childStep, syscall.Errno) {
	var action kernelSigaction
	for s := uintptr(1); s <= signals; s++ {
		if s != uintptr(unix.SIGKILL) && s != uintptr(unix.SIGSTOP) {
			if _, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); e != 0 {
				return stepSignals, e
			}
		}
	}
	var none uint64
	_, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
	return stepSignals, e
}

// childNest enters a user namespace of its own where that is asked for.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childNest() (childStep, syscall.Errno) {
	if c.nested == nil {
		return 0, 0
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0); e != 0 {
		return stepUserNS, e
	}
	// A process that cannot be looked into does not own its files in /proc.
	if _, _, e := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0); e != 0 {
		return stepUserNS, e
	}
	for i := range c.nested {
		m := &c.nested[i]
		fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, c.idMaps, uintptr(unsafe.Pointer(m.name)), unix.O_WRONLY|unix.O_CLOEXEC, 0, 0, 0)
		if e != 0 {
			return stepUserNS, e
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&m.data[0])), uintptr(len(m.data))); e != 0 {
			return stepUserNS, e
		}
		syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
	return 0, 0
}

// childUser changes to the user, with the capabilities that it has.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childUser() (childStep, syscall.Errno) {
	// Before the change of the user, also for its side effect on what other
	// users would inherit; the set is kept through it.
	if e := c.childCaps(); e != 0 {
		return stepCaps, e
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); e != 0 {
		return stepCaps, e
	}
	if !c.single {
		var groups uintptr
		if len(c.groups) > 0 {
			groups = uintptr(unsafe.Pointer(&c.groups[0]))
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(c.groups)), groups, 0); e != 0 {
			return stepGroups, e
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, uintptr(c.gid), uintptr(c.gid), uintptr(c.gid)); e != 0 {
			return stepGroups, e
		}
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, uintptr(c.uid), uintptr(c.uid), uintptr(c.uid)); e != 0 {
			return stepUser, e
		}
	}
	// As with runc, it is with these that the command is started, so a user can
	// start what only root may; unless it is insecure, starting ends them.
	if e := c.childCaps(); e != 0 {
		return stepCaps, e
	}
	if !c.insecure {
		return 0, 0
	}
	for i := uintptr(0); i < 64; i++ {
		if c.caps&(1<<i) != 0 {
			if _, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, i, 0, 0, 0); e != 0 {
				return stepCaps, e
			}
		}
	}
	return 0, 0
}

// childCaps sets the command's capabilities.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childCaps() syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&c.capHeader)), uintptr(unsafe.Pointer(&c.capData[0])), 0)
	return e
}

// childFake loads the filter that makes one user look like many. There the
// command may not gain privileges, which there are none of anyway.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childFake() (childStep, syscall.Errno) {
	if c.fakeRoot == nil {
		return 0, 0
	}
	if _, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return stepFakeRoot, e
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(c.fakeRoot))); e != 0 {
		return stepFakeRoot, e
	}
	return 0, 0
}

// childExec tries the executables, as execvp(3) does.
//
//go:noinline
//go:norace
//go:nosplit
func (c *command) childExec() (childStep, syscall.Errno) {
	last := syscall.Errno(unix.ENOENT)
	for i, file := range c.files {
		_, _, e := syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(file)), uintptr(unsafe.Pointer(&c.argv[0])), uintptr(unsafe.Pointer(&c.envv[0])))
		switch e {
		case unix.ENOENT, unix.ENOTDIR:
			continue
		case unix.EACCES:
			last, c.tried = e, int32(i)
			continue
		}
		c.tried = int32(i)
		return stepExec, e
	}
	return stepExec, last
}
