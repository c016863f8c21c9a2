package inside

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// takeSignals takes all signals that would otherwise end this process with a dump
// of its goroutines in the command's output: a command may send it any. Those that
// stop a process do not concern the first one of a namespace.
func takeSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 64)
	for s := syscall.Signal(1); s <= lastSignal; s++ {
		switch s {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU: // stop, or cannot be taken
		case unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT: // ignored by default; the runtime uses SIGURG
		default:
			signal.Notify(signals, s)
		}
	}
	return signals
}

// lastSignal is the last one that is not a real-time signal: the runtime ignores
// these.
const lastSignal = unix.SIGSYS

// forwardTo passes on the signals that ask a program for something. The others
// report a fault of the process itself; nobody else's are of interest.
func forwardTo(pid int, signals <-chan os.Signal) {
	for s := range signals {
		switch s {
		case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE:
			unix.Kill(pid, s.(syscall.Signal))
		}
	}
}

// newSessionKeyring leaves the session keyring of the person who builds. The
// command gets an empty one.
func newSessionKeyring() error {
	// Without a name it is a new one: a name would join an existing one.
	_, _, errno := unix.Syscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.ENOSYS, unix.EPERM, unix.EACCES:
		// The kernel has no keyrings, or a seccomp filter around us denies them,
		// to the command as well.
		return nil
	case unix.EDQUOT:
		return &HintError{
			Err:  fmt.Errorf("making a session keyring: %w", errno),
			Hint: "this user has as many keys as the kernel allows: raise kernel.keys.maxkeys, or build fewer steps at once",
		}
	}
	return fmt.Errorf("making a session keyring: %w", errno)
}

// scopesABI is the first version of Landlock with scopes (Linux 6.12).
const scopesABI = 6

// CanScope reports whether the kernel can keep a command from the abstract
// sockets and from the processes outside its sandbox.
func CanScope() bool {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0 && version >= scopesABI
}

// restrictScopes keeps this thread, and with it the command that it starts, from
// abstract sockets and processes of the host: abstract sockets belong to the
// network namespace, which is the host's, and pass on open directories. This
// thread is in the same scope as the command, so that the command can signal it as
// it could signal any first process. Where the kernel has no scopes, nothing
// happens (see CanScope).
func restrictScopes() error {
	if !CanScope() {
		return nil
	}
	attr := unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL}
	size := unsafe.Offsetof(attr.Scoped) + unsafe.Sizeof(attr.Scoped) // what follows came later
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("keeping the command from abstract sockets: landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("keeping the command from abstract sockets: landlock_restrict_self: %w", errno)
	}
	return nil
}

// sealTimeout is how long files of the ended command may take to be closed.
const sealTimeout = 2 * time.Second

// sealRoot makes the root's file system read-only for whoever still has a file
// or directory of it open: a command may have passed one to a process outside,
// which could change the layer later on.
func sealRoot(root int) error {
	for end := time.Now().Add(sealTimeout); ; time.Sleep(5 * time.Millisecond) {
		err := setReadOnly(root)
		if errors.Is(err, unix.EBUSY) && time.Now().Before(end) {
			continue
		}
		if errors.Is(err, unix.EBUSY) {
			return &HintError{
				Err:  errors.New("the command has ended, but a process outside its sandbox still has one of its files open for writing"),
				Hint: "the command passed the file on, through a socket in a cache mount or a volume: end the process that took it, and take that out of the step",
			}
		}
		if err != nil {
			return fmt.Errorf("making the root read-only after the command: %w", err)
		}
		return nil
	}
}

// setReadOnly makes a file system read-only, in all its mounts. It is EBUSY while
// a file is open for writing.
func setReadOnly(dir int) error {
	fs, err := unix.Fspick(dir, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return tooOld("fspick", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return err
	}
	return unix.FsconfigReconfigure(fs)
}
