package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// nobody is the number of no process: it is above the kernel's largest.
const nobody = 1 << 30

// TestStepGroup holds that a command is in a group of its own, below that of the
// build, and that the group goes with it.
func TestStepGroup(t *testing.T) {
	b := newBox(t)
	if os.Getenv(version2Mounted) == "" {
		needGroups(t)
	}
	out, _, err := b.run(b.sh("cat /proc/self/cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	name := "/" + stepPrefix + strconv.Itoa(os.Getpid()) + "-"
	var in []string
	for line := range strings.Lines(out) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		_, after, own := strings.Cut(fields[2], name)
		if own {
			in = append(in, strings.Split(fields[1], ",")...)
		}
		if own && strings.Contains(after, "/") {
			t.Errorf("%s is not the group itself", line)
		}
	}
	if !unified() && (!slices.Contains(in, "cpu") || !slices.Contains(in, "memory")) || unified() && !slices.Contains(in, "") {
		t.Errorf("in no group of its own:\n%s", out)
	}
	own, err := ownGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, controller := range append(stepControllers[:], "") {
		left, _ := filepath.Glob(filepath.Join(cgroupDir, controller, own[controller], name+"*"))
		if len(left) > 0 {
			t.Errorf("left: %s", left)
		}
	}
}

// version2Mounted is set where TestStepGroup runs below a version 2 that was mounted
// for it. Such a machine may have all controllers in version 1, so that limits cannot
// be set.
const version2Mounted = "SINTER_TEST_CGROUP2"

// TestStepGroupVersion2 runs TestStepGroup on a kernel's version 2 also where the
// machine uses version 1.
func TestStepGroupVersion2(t *testing.T) {
	if userns.Inside() || os.Getuid() != 0 {
		t.Skip("control groups need root")
	}
	if unified() {
		t.Skip("TestStepGroup has it")
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t cgroup2 none /sys/fs/cgroup || exit 77; exec "$0" -test.run='^TestStepGroup$' -test.v`, os.Args[0])
	cmd.Env = append(os.Environ(), version2Mounted+"=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("version 2 cannot be mounted: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestStepGroup") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestStepGroupFiles has the directories of both versions without a kernel behind
// them.
func TestStepGroupFiles(t *testing.T) {
	own := map[string]string{"": "/user.slice/build.scope", "cpu": "/ci", "memory": "/outside"}
	live := fmt.Sprintf("%s%d-1", stepPrefix, os.Getpid())
	dead := fmt.Sprintf("%s%d-1", stepPrefix, nobody)
	for _, tt := range []struct {
		name    string
		unified bool
		there   []string
		want    map[string]string // the folder of the group, by controller
	}{
		{"version 2", true, []string{"user.slice/build.scope"}, map[string]string{"": "user.slice/build.scope"}},
		{"version 2, another mount", true, []string{"other"}, nil},
		// The memory group that this process has is not in the container's view.
		{"version 1", false, []string{"cpu/ci", "memory"}, map[string]string{"cpu": "cpu/ci", "memory": "memory"}},
		{"neither", false, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range tt.there {
				for _, name := range []string{live, dead, "sinter-advisory"} {
					if err := os.MkdirAll(filepath.Join(root, dir, name), 0o755); err != nil {
						t.Fatal(err)
					}
				}
			}
			g := newStepGroup(root, tt.unified, own)
			if len(g.dirs) != len(tt.want) || !g.optional {
				t.Errorf("got %v, want %v", g.dirs, tt.want)
			}
			for controller, dir := range tt.want {
				checkStepGroup(t, g.dirs[controller], filepath.Join(root, dir), live, dead)
			}
			if err := g.add(1); err != nil {
				t.Error(err)
			}
			g.remove()
		})
	}
}

func checkStepGroup(t *testing.T, group, base, live, dead string) {
	t.Helper()
	names := []string{}
	entries, err := os.ReadDir(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if filepath.Dir(group) != base || !slices.Contains(names, filepath.Base(group)) {
		t.Errorf("%s was not made in %s", group, base)
	}
	if !slices.Contains(names, live) || !slices.Contains(names, "sinter-advisory") || slices.Contains(names, dead) {
		t.Errorf("of what others left, there is %s", names)
	}
}

// TestStepGroupUse writes what the kernel reads: who is in the group, and that all of
// them shall end.
func TestStepGroupUse(t *testing.T) {
	root := t.TempDir()
	g := newStepGroup(root, true, map[string]string{"": "/"})
	if err := g.add(nobody); err != nil {
		t.Fatal(err)
	}
	dir := g.dirs[""]
	g.remove()
	for name, want := range map[string]string{"cgroup.procs": strconv.Itoa(nobody), "cgroup.kill": "1"} {
		file := filepath.Join(dir, name)
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// Without the controller the machine's count of what ran out of memory counts.
	if machine := (&group{}).oomKills(); g.oomKills() < machine {
		t.Errorf("%d, the machine has %d", g.oomKills(), machine)
	}
	if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte("oom 3\noom_kill 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := g.oomKills(); n != 2 {
		t.Errorf("%d, want 2", n)
	}
}

// Where groups cannot be made, a command that needs none runs all the same.
func TestNoStepGroup(t *testing.T) {
	b := newBox(t)
	if userns.Root() {
		t.Skip("root has control groups")
	}
	b.want(b.sh("echo ran"), "ran\n")
}
