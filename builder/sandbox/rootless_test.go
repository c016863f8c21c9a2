package sandbox

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// Every test is true in user namespaces as well: with many users, with one, and in
// that of a root who may not mount.
func TestRootless(t *testing.T) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to make user namespaces of any shape")
	}
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 64321, Size: 1}} // nobody's number
	many := append(one, syscall.SysProcIDMap{ContainerID: 1, HostID: 200000, Size: 65536})
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: math.MaxUint32}}
	for name, ids := range map[string][]syscall.SysProcIDMap{"one user": one, "many users": many, "root without privileges": all} {
		t.Run(name, func(t *testing.T) {
			owner, single := ids[0].HostID, len(ids) == 1 && ids[0].Size == 1
			dir, err := os.MkdirTemp("/var/tmp", "sinter-rootless-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			data, err := os.ReadFile(self1(t))
			if err != nil {
				t.Fatal(err)
			}
			exe := filepath.Join(dir, "test")
			if err := os.WriteFile(exe, data, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{dir, exe} {
				if err := os.Chown(path, owner, owner); err != nil {
					t.Fatal(err)
				}
			}
			run := func(env, ran string, args ...string) {
				t.Helper()
				cmd := exec1(t, append([]string{exe, "-test.v", "-test.timeout", "300s"}, args...)...)
				cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir, env)
				cmd.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
					UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: !single,
					Credential: &syscall.Credential{NoSetGroups: single},
				}
				if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+ran) {
					t.Errorf("%v\n%s", err, failures(string(out)))
				}
			}
			run("", "TestExit", "-test.skip", "^TestRootless$")
			done := make(chan error)
			go func() {
				runtime.LockOSThread() // and never unlocked: the mounts end with the thread
				err := hideInProc()
				if err == nil {
					run(outerProcEnv+"=1", "TestOuterProc", "-test.run", "^TestOuterProc$")
				}
				done <- err
			}()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// failures leaves out of a test's verbose output what says that tests passed.
func failures(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		switch text := strings.TrimSpace(line); {
		case strings.HasPrefix(text, "=== "), strings.HasPrefix(text, "--- PASS"), strings.HasPrefix(text, "--- SKIP"):
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

// hideInProc hides a part of /proc from this thread, as containers do. In a user
// namespace below it that cannot be undone.
func hideInProc() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("/dev/null", "/proc/uptime", "", unix.MS_BIND, "")
}
