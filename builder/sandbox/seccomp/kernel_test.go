package seccomp

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filtered is os.Args[0] of the test binary as a process under a filter.
const filtered = "sinter-seccomp-test"

func TestMain(m *testing.M) {
	if os.Args[0] == filtered {
		os.Exit(runFiltered(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// install loads filters into this thread, the first one first.
func install(filters ...[]unix.SockFilter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	for _, f := range filters {
		program := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
		if errno != 0 {
			return errno
		}
	}
	return nil
}

// runFiltered prints what calls return under the filters.
func runFiltered(which, dir string) int {
	runtime.LockOSThread()
	def, err := Default(dockerCaps())
	fake, fakeErr := FakeRoot()
	if err = errors.Join(err, fakeErr); err != nil {
		return 90
	}
	filters := map[string][][]unix.SockFilter{"default": {def}, "fake": {def, fake}}[which]
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), install(filters...)); err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 91
	}
	raw := func(nr uintptr, args ...uintptr) error {
		var a [3]uintptr
		copy(a[:], args)
		if _, _, errno := unix.RawSyscall(nr, a[0], a[1], a[2]); errno != 0 {
			return errno
		}
		return nil
	}
	_, alg := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
	inet, inetErr := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if inetErr == nil {
		inetErr = unix.Close(inet)
	}
	results := map[string]error{
		"unshare":     unix.Unshare(unix.CLONE_NEWUSER),
		"clone3":      raw(unix.SYS_CLONE3),
		"future":      raw(1000),
		"getppid":     raw(unix.SYS_GETPPID),
		"keyctl":      raw(unix.SYS_KEYCTL),
		"personality": raw(unix.SYS_PERSONALITY, 0xffffffff),
		"socket alg":  alg,
		"socket unix": inetErr,
		"chown":       unix.Fchownat(unix.AT_FDCWD, file, 4242, 4242, 0),
		"setgroups":   raw(unix.SYS_SETGROUPS, 0xffffffff),
		"device":      unix.Mknodat(unix.AT_FDCWD, filepath.Join(dir, "device"), unix.S_IFCHR|0o600, 0x0103),
		"pipe":        unix.Mknodat(unix.AT_FDCWD, filepath.Join(dir, "pipe"), unix.S_IFIFO|0o600, 0),
	}
	text := map[string]string{}
	for name, err := range results {
		text[name] = ""
		var errno unix.Errno
		if errors.As(err, &errno) {
			text[name] = unix.ErrnoName(errno)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(text); err != nil {
		return 92
	}
	return 0
}

// TestKernel has the kernel of this machine run the filters, in a user namespace
// with a single id, where what FakeRoot fakes would fail.
func TestKernel(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for which, faked := range map[string]bool{"default": false, "fake": true} {
		t.Run(which, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(self, which, dir)
			cmd.Args[0] = filtered
			cmd.SysProcAttr = alone()
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
				t.Skipf("no user namespace: %v", err)
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var got map[string]string
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"unshare": "EPERM", "clone3": "ENOSYS", "future": "ENOSYS", "getppid": "", "keyctl": "EPERM",
				"personality": "", "socket alg": "EPERM", "socket unix": "", "pipe": "",
				"chown": "EINVAL", "setgroups": "EPERM", "device": "EPERM",
			}
			if faked {
				want["chown"], want["setgroups"], want["device"] = "", "", ""
			}
			for name, w := range want {
				if got[name] != w {
					t.Errorf("%s: %q, want %q", name, got[name], w)
				}
			}
			if info, err := os.Lstat(filepath.Join(dir, "pipe")); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
				t.Errorf("pipe: %v, %v", info, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "device")); err == nil {
				t.Error("a device was made")
			}
		})
	}
}

// alone starts a process as root of a user namespace with a single id.
func alone() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
}
