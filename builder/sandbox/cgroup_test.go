package sandbox

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

func TestVersion2(t *testing.T) {
	for _, c := range []struct {
		r    Resources
		want []setting
	}{
		{Resources{}, nil},
		{Resources{Memory: 100}, []setting{{"memory.max", "100"}}},
		{Resources{Memory: 100, MemorySwap: 250}, []setting{{"memory.max", "100"}, {"memory.swap.max", "150"}}},
		{Resources{Memory: 100, MemorySwap: -1}, []setting{{"memory.max", "100"}, {"memory.swap.max", "max"}}},
		{Resources{CPUShares: 2}, []setting{{"cpu.weight", "1"}}},
		{Resources{CPUShares: 1024}, []setting{{"cpu.weight", "39"}}},
		{Resources{CPUShares: 262144}, []setting{{"cpu.weight", "10000"}}},
		{Resources{CPUQuota: 50000}, []setting{{"cpu.max", "50000 100000"}}},
		{Resources{CPUPeriod: 5000}, []setting{{"cpu.max", "max 5000"}}},
		{Resources{CPUQuota: -1, CPUPeriod: 5000}, []setting{{"cpu.max", "max 5000"}}},
		{Resources{CPUSetCPUs: "0-1", CPUSetMems: "0"}, []setting{{"cpuset.cpus", "0-1"}, {"cpuset.mems", "0"}}},
	} {
		if got := c.r.version2(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.r, got, c.want)
		}
	}
}

func needGroups(t *testing.T) {
	t.Helper()
	if userns.Inside() || os.Getuid() != 0 {
		t.Skip("control groups need root")
	}
	g, err := newGroup("", Resources{Memory: 1 << 30})
	if err != nil {
		t.Skip("no control groups here: ", err)
	}
	g.remove()
}

func TestLimits(t *testing.T) {
	b := newBox(t)
	needGroups(t)
	s := b.sh("grep -E 'Cpus_allowed_list' /proc/self/status | awk '{print $2}'")
	s.Resources = Resources{Memory: 64 << 20, CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, CPUSetCPUs: "0"}
	b.want(s, "0\n")
	s = b.sh("cat /proc/self/cgroup")
	s.CgroupParent = "sinter-test-parent"
	out, _, err := b.run(s)
	if err != nil || !strings.Contains(out, "/sinter-test-parent/sinter/") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, top := range []string{"", "memory", "cpu", "cpuset", "pids"} {
		dir := cgroupDir + "/" + top + "/sinter-test-parent"
		left, _ := os.ReadDir(dir + "/sinter")
		for _, e := range left {
			if e.IsDir() {
				t.Errorf("control group %s/sinter/%s is left", dir, e.Name())
			}
		}
		os.Remove(dir + "/sinter")
		os.Remove(dir)
	}
}

func TestOutOfMemory(t *testing.T) {
	b := newBox(t)
	needGroups(t)
	s := b.sh("dd if=/dev/zero of=/dev/null bs=256M count=1 2>/dev/null")
	s.Resources = Resources{Memory: 32 << 20}
	if r := b.fail(s, 137, "exit code: 137: killed by the kernel because memory ran out"); !r.OOM {
		t.Fatal("not told as out of memory")
	}
	if r := b.fail(b.sh("kill -9 $$"), 137, "killed by signal 9"); r.OOM {
		t.Fatal("told as out of memory")
	}
}

// Limits that cannot be had are no silent wish.
func TestNoLimits(t *testing.T) {
	b := newBox(t)
	if userns.Root() {
		t.Skip("root has control groups")
	}
	s := b.sh("true")
	s.Resources = Resources{Memory: 32 << 20}
	_, _, err := b.run(s)
	var h interface{ HintText() string }
	if err == nil || !errors.As(err, &h) || !strings.Contains(err.Error(), "control group") {
		t.Fatalf("got %v", err)
	}
}
