package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// Every test is true in user namespaces as well: with many users, and with one.
func TestRootless(t *testing.T) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to make user namespaces of any shape")
	}
	const owner = 64321 // nobody's number
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: owner, Size: 1}}
	many := append(one, syscall.SysProcIDMap{ContainerID: 1, HostID: 200000, Size: 65536})
	for name, ids := range map[string][]syscall.SysProcIDMap{"one user": one, "many users": many} {
		t.Run(name, func(t *testing.T) {
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
			cmd := exec1(t, exe, "-test.skip", "^TestRootless$", "-test.v", "-test.timeout", "120s")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: len(ids) > 1,
				Credential: &syscall.Credential{NoSetGroups: len(ids) == 1},
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), "--- PASS: TestExit") {
				t.Fatalf("nothing ran:\n%s", out)
			}
		})
	}
}
