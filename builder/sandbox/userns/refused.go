package userns

import (
	"bytes"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A RefusedError says that this user cannot have a user namespace, or not with
// the ids that are the user's.
type RefusedError struct {
	Err  error  // what the kernel or newuidmap said
	Hint string // which setting it is, and how to change it
}

func (e *RefusedError) Error() string { return "making a user namespace: " + e.Err.Error() }

// Unwrap returns what the kernel or newuidmap said.
func (e *RefusedError) Unwrap() error { return e.Err }

// HintText says what to do.
func (e *RefusedError) HintText() string { return e.Hint }

// refused finds the reason for a refusal in the kernel's settings.
func refused(err error) error { return &RefusedError{Err: err, Hint: refusal(err, setting)} }

// mapRefused is refused for the maps of a namespace; an error that already says
// what to do stays as it is.
func mapRefused(err error) error {
	var known *RefusedError
	if errors.As(err, &known) {
		return err
	}
	return refused(err)
}

// refusal names the setting that is behind an error. The settings are read by
// get, which returns "" for one that this kernel does not have.
func refusal(err error, get func(path string) string) string {
	var file *os.PathError
	switch {
	case errors.As(err, &file) && file.Path == os.DevNull:
		return os.DevNull + " is missing, as in a bare chroot: make it with mknod -m 666 " + os.DevNull + " c 1 3, or mount /dev"
	case get("/proc/self/ns/user") == "":
		return "this kernel has no user namespaces (CONFIG_USER_NS), or /proc is not mounted; run as root instead"
	case get("/proc/sys/user/max_user_namespaces") == "0":
		return "the sysctl user.max_user_namespaces is 0; as root: sysctl -w user.max_user_namespaces=15000"
	case get("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return "the sysctl kernel.unprivileged_userns_clone is 0; as root: sysctl -w kernel.unprivileged_userns_clone=1"
	case get("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts user namespaces to programs with a profile that allows userns; give this program one in /etc/apparmor.d, " +
			"or as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return "too many user namespaces exist or they are nested too deep; raise the sysctl user.max_user_namespaces"
	case get("Seccomp") == "2" && file != nil && file.Op == "fork/exec":
		return seccompHint
	case get("Uid") == "0" && errors.Is(err, unix.EPERM):
		return "this is a root without privileges, as in a container: give it CAP_SYS_ADMIN, or CAP_SETUID, CAP_SETGID and CAP_SETFCAP (--cap-add), or build as another user"
	case get("Seccomp") == "2":
		return seccompHint
	}
	return "user namespaces are also refused in a chroot and by security modules; run as root instead, or look into the kernel's log (dmesg)"
}

const seccompHint = "a seccomp filter of the container around us is likely to refuse it; " +
	"start that container with --security-opt seccomp=unconfined, or for a build as root with --cap-add SYS_ADMIN"

// setting reads a setting of this machine, by its path, or of this process, by
// its name in /proc/self/status.
func setting(path string) string {
	switch path {
	case "/proc/self/ns/user":
		link, err := os.Readlink(path)
		if err != nil {
			return ""
		}
		return link
	case "Seccomp", "NoNewPrivs", "Uid":
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return ""
		}
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, path+":"); ok {
				value, _, _ = strings.Cut(strings.TrimSpace(value), "\t")
				return value
			}
		}
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// firstLine returns the first line of a program's complaint.
func firstLine(out []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}
