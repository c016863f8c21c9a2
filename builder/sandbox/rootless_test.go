package sandbox

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
			cmd := exec1(t, exe, "-test.skip", "^TestRootless$", "-test.v", "-test.timeout", "120s")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: !single,
				Credential: &syscall.Credential{NoSetGroups: single},
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
