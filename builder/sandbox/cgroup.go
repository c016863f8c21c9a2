package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

const cgroupDir = "/sys/fs/cgroup"

// group is the control group of a command: a directory in the one hierarchy of
// version 2, or in several of version 1. It is empty where none can be made and none
// is asked for.
type group struct {
	// dirs are by controller; version 2 has one, named "".
	dirs map[string]string
	// optional: the command may do without.
	optional bool
}

// newGroup makes a group, with limits or below a parent if that is asked for.
func newGroup(parent string, r Resources) (*group, error) {
	if parent == "" && r == (Resources{}) {
		own, err := ownGroups()
		if err != nil {
			return &group{}, nil //nolint:nilerr // nobody asked for one
		}
		return newStepGroup(cgroupDir, unified(), own), nil
	}
	g := &group{dirs: map[string]string{}}
	err := g.make(parent, r)
	if err == nil {
		err = g.limit(r)
	}
	if err != nil {
		g.remove()
		advice := "limits need control groups that this user may write to: build as root, or leave the limits out"
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) {
			advice = "this machine does not take such a limit: choose another value"
		}
		return nil, hint.Add(fmt.Errorf("control group: %w", err), advice)
	}
	return g, nil
}

func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(cgroupDir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

func (g *group) make(parent string, r Resources) error {
	name := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	if unified() {
		base := filepath.Join(cgroupDir, filepath.Clean("/"+parent), "sinter")
		dir, err := makeGroup(base, name)
		if err != nil {
			return err
		}
		g.dirs[""] = dir
		return delegate(base, r)
	}
	own, err := ownGroups()
	if err != nil {
		return err
	}
	for _, controller := range []string{"memory", "cpu", "cpuset", "pids"} {
		top := filepath.Join(cgroupDir, controller)
		if _, err := os.Stat(top); err != nil {
			if r.needs(controller) {
				return fmt.Errorf("controller %s not found: %w", controller, err)
			}
			continue
		}
		base := filepath.Join(top, filepath.Clean("/"+parent))
		if parent == "" {
			base = top
			// In a container its own group is the top of what it sees.
			if _, err := os.Stat(filepath.Join(top, own[controller])); err == nil {
				base = filepath.Join(top, own[controller])
			}
		}
		if g.dirs[controller], err = makeGroup(filepath.Join(base, "sinter"), name); err != nil {
			return err
		}
	}
	return g.cpuset()
}

func (r Resources) needs(controller string) bool {
	switch controller {
	case "memory":
		return r.Memory != 0 || r.MemorySwap != 0
	case "cpu":
		return r.CPUShares != 0 || r.CPUPeriod != 0 || r.CPUQuota != 0
	case "cpuset":
		return r.CPUSetCPUs != "" || r.CPUSetMems != ""
	}
	return false
}

// makeGroup makes a group, and removes those that killed builds left behind.
func makeGroup(base, name string) (string, error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		pid, _, _ := strings.Cut(e.Name(), "-")
		n, err := strconv.Atoi(pid)
		if err == nil && e.IsDir() && errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			unix.Rmdir(filepath.Join(base, e.Name())) // fails when it is still in use
		}
	}
	dir := filepath.Join(base, name)
	return dir, os.Mkdir(dir, 0o755)
}

// delegate turns on what is needed in every group from the top to base.
func delegate(base string, r Resources) error {
	rel, err := filepath.Rel(cgroupDir, base)
	if err != nil {
		return err
	}
	dir := cgroupDir
	for _, part := range append([]string{"."}, strings.Split(rel, "/")...) {
		dir = filepath.Join(dir, part)
		for _, controller := range []string{"memory", "cpu", "cpuset"} {
			if !r.needs(controller) {
				continue
			}
			if err := writeGroup(dir, "cgroup.subtree_control", "+"+controller); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownGroups are the groups of this process by controller of version 1.
func ownGroups() (map[string]string, error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	own := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) == 3 {
			for _, c := range strings.Split(fields[1], ",") {
				own[c] = fields[2]
			}
		}
	}
	return own, lines.Err()
}

// cpuset fills new groups of version 1, which take no process while they are
// empty, from the top to this one.
func (g *group) cpuset() error {
	dir, ok := g.dirs["cpuset"]
	if !ok {
		return nil
	}
	top := filepath.Join(cgroupDir, "cpuset")
	rel, err := filepath.Rel(top, dir)
	if err != nil {
		return err
	}
	for _, part := range strings.Split(rel, "/") {
		above := top
		top = filepath.Join(top, part)
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			own, err := os.ReadFile(filepath.Join(top, name))
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(own)) != "" {
				continue
			}
			from, err := os.ReadFile(filepath.Join(above, name))
			if err != nil {
				return err
			}
			if err := writeGroup(top, name, strings.TrimSpace(string(from))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *group) limit(r Resources) error {
	settings := r.version1()
	if dir, ok := g.dirs[""]; ok {
		for _, s := range r.version2() {
			if err := writeGroup(dir, s.file, s.value); err != nil {
				return err
			}
		}
		return nil
	}
	for _, s := range settings {
		controller, _, _ := strings.Cut(s.file, ".")
		if err := writeGroup(g.dirs[controller], s.file, s.value); err != nil {
			return err
		}
	}
	return nil
}

type setting struct{ file, value string }

func (r Resources) version1() (s []setting) {
	add := func(set bool, file, value string) {
		if set {
			s = append(s, setting{file, value})
		}
	}
	add(r.Memory != 0, "memory.limit_in_bytes", strconv.FormatInt(r.Memory, 10))
	add(r.MemorySwap != 0, "memory.memsw.limit_in_bytes", strconv.FormatInt(r.MemorySwap, 10))
	add(r.CPUShares != 0, "cpu.shares", strconv.FormatUint(r.CPUShares, 10))
	add(r.CPUPeriod != 0, "cpu.cfs_period_us", strconv.FormatUint(r.CPUPeriod, 10))
	add(r.CPUQuota != 0, "cpu.cfs_quota_us", strconv.FormatInt(r.CPUQuota, 10))
	add(r.CPUSetCPUs != "", "cpuset.cpus", r.CPUSetCPUs)
	add(r.CPUSetMems != "", "cpuset.mems", r.CPUSetMems)
	return s
}

// version2 converts as runc does: swap there does not count memory, and weights
// of 1 to 10000 stand for shares of 2 to 262144.
func (r Resources) version2() (s []setting) {
	add := func(set bool, file, value string) {
		if set {
			s = append(s, setting{file, value})
		}
	}
	add(r.Memory != 0, "memory.max", amount(r.Memory))
	swap := r.MemorySwap
	if swap > 0 {
		swap = max(0, swap-r.Memory)
	}
	add(r.MemorySwap != 0, "memory.swap.max", amount(swap))
	add(r.CPUShares != 0, "cpu.weight", strconv.FormatUint(1+(min(max(r.CPUShares, 2), 262144)-2)*9999/262142, 10))
	if r.CPUQuota != 0 || r.CPUPeriod != 0 {
		period := r.CPUPeriod
		if period == 0 {
			period = 100000
		}
		quota := "max"
		if r.CPUQuota > 0 {
			quota = strconv.FormatInt(r.CPUQuota, 10)
		}
		add(true, "cpu.max", fmt.Sprintf("%s %d", quota, period))
	}
	add(r.CPUSetCPUs != "", "cpuset.cpus", r.CPUSetCPUs)
	add(r.CPUSetMems != "", "cpuset.mems", r.CPUSetMems)
	return s
}

func amount(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func writeGroup(dir, file, value string) error {
	err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("setting %s to %s: %w", pe.Path, value, pe.Err)
	}
	return err
}

// add puts a process into the group.
func (g *group) add(pid int) error {
	for _, dir := range g.dirs {
		if err := writeGroup(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil && !g.optional {
			return fmt.Errorf("control group: %w", err)
		}
	}
	return nil
}

// remove removes the group, and ends what is left in it where the kernel does that
// for a group (version 2, from Linux 5.14 on).
func (g *group) remove() {
	for version, dir := range g.dirs {
		if version == "" {
			_ = writeGroup(dir, "cgroup.kill", "1")
		}
		for range 50 {
			if err := unix.Rmdir(dir); err != unix.EBUSY {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// oomKills counts what the kernel killed for lack of memory: in the group, or in
// the whole machine when there is none.
func (g *group) oomKills() int64 {
	file := "/proc/vmstat"
	if dir, ok := g.dirs["memory"]; ok {
		file = filepath.Join(dir, "memory.oom_control")
	} else if dir, ok := g.dirs[""]; ok && isFile(filepath.Join(dir, "memory.events")) {
		file = filepath.Join(dir, "memory.events")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			count, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			return count
		}
	}
	return 0
}

// isFile reports whether a file of a group is there: its controller is on.
func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}
