package pid1

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
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

// forwardTo passes on the signals that ask a program for something and that the
// command catches: in Docker the command is the first process itself, which the
// kernel spares what it does not catch. The other signals report a fault of the
// process that gets them.
func forwardTo(pid int, signals <-chan os.Signal) {
	for s := range signals {
		switch s {
		case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE:
			if n := s.(syscall.Signal); catches(pid, n) {
				unix.Kill(pid, n)
			}
		}
	}
}

// catches reports whether a process has a handler for a signal.
func catches(pid int, s syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(status), "\nSigCgt:\t")
	mask, _, _ := strings.Cut(after, "\n")
	caught, err := strconv.ParseUint(mask, 16, 64)
	return err == nil && caught&(1<<(s-1)) != 0
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
		return hint.Add(
			fmt.Errorf("making a session keyring: %w", errno),
			"this user has as many keys as the kernel allows: raise kernel.keys.maxkeys, or build fewer steps at once",
		)
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
// abstract sockets and processes of others: abstract sockets belong to the network
// namespace, which may be the host's, and pass on open directories. This
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
	_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	if errno == unix.E2BIG {
		return hint.Add(
			fmt.Errorf("keeping the command from abstract sockets: landlock_restrict_self: %w", errno),
			"sinter already runs inside the maximum number of nested Landlock sandboxes: start it outside of one of them",
		)
	}
	if errno != 0 {
		return fmt.Errorf("keeping the command from abstract sockets: landlock_restrict_self: %w", errno)
	}
	return nil
}

// sealTimeout is how long files of the ended command may take to be closed.
const sealTimeout = 2 * time.Second

// sealRoot makes the root's file system read-only for whoever still has a file
// or directory of it open: a command may have passed one to a process outside,
// which could change the layer later on.
func (in *sandboxInit) sealRoot() error {
	err := setReadOnly(in.root)
	if errors.Is(err, unix.EBUSY) {
		// A privileged command may have mounted an image that is one of its files.
		err = in.detachMounts()
	}
	for end := time.Now().Add(sealTimeout); err == nil || errors.Is(err, unix.EBUSY); time.Sleep(5 * time.Millisecond) {
		if err = setReadOnly(in.root); err == nil {
			return nil
		}
		if time.Now().After(end) {
			break
		}
	}
	if errors.Is(err, unix.EBUSY) {
		return hint.Add(
			errors.New("a process outside its sandbox, a loop device or swap space still has one of its files open for writing"),
			"detach devices in the same step (losetup -d, swapoff); if the command passed the file on, through a socket in a cache mount or a volume, end the process that took it",
		)
	}
	return fmt.Errorf("making the root read-only: %w", err)
}

// detachMounts detaches all that is mounted on the root.
func (in *sandboxInit) detachMounts() error {
	const mountPoint = 4 // the field of a line, see proc_pid_mountinfo(5)
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(strings.Split(string(data), "\n")) {
		fields := strings.Fields(line)
		if len(fields) <= mountPoint || fields[mountPoint] == "/" {
			continue
		}
		// What is hidden below another mount goes with that.
		_ = unix.Unmount(unescape.Replace(fields[mountPoint]), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	return nil
}

// unescape reads the characters that the kernel writes as numbers in mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

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
