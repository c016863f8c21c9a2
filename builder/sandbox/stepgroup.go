package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stepPrefix begins the names of the groups of commands for which no limits and no
// parent were asked. The number of the process that made one follows.
const stepPrefix = "sinter-"

// stepControllers are those of version 1 that such a group is in: a command is
// scheduled and measured as one.
var stepControllers = [...]string{"cpu", "cpuacct", "memory"}

// swept are the directories from which this process has removed what killed builds
// left.
var swept sync.Map

// newStepGroup makes a group for a command directly below the one that this process
// is in, so that limits on the build hold for the command as well. What this user may
// not do, and what the machine does not have, is left out without a word.
//
// In version 2 no controller is turned on: the kernel refuses that for a group that
// has processes itself, as ours has ("no internal processes"). Such a group still
// counts time, and is killed as one.
func newStepGroup(root string, unified bool, own map[string]string) *group {
	g := &group{dirs: map[string]string{}, optional: true}
	name := fmt.Sprintf("%s%d-%d", stepPrefix, os.Getpid(), time.Now().UnixNano())
	add := func(controller, base string) {
		if _, done := swept.LoadOrStore(base, true); !done {
			removeLeft(base)
		}
		if dir := filepath.Join(base, name); os.Mkdir(dir, 0o755) == nil {
			g.dirs[controller] = dir
		}
	}
	if unified {
		add("", filepath.Join(root, own[""]))
		return g
	}
	for _, controller := range stepControllers {
		// In a container its own group is the top of what it sees.
		top := filepath.Join(root, controller)
		base := filepath.Join(top, own[controller])
		if _, err := os.Stat(base); err != nil {
			base = top
		}
		if controller == "memory" && !hierarchical(base) {
			continue
		}
		// Where two controllers are one directory, the second finds it made.
		add(controller, base)
	}
	return g
}

// hierarchical reports whether the limits of a group of version 1 hold for those
// below it. Before Linux 5.11 that was a setting.
func hierarchical(base string) bool {
	data, err := os.ReadFile(filepath.Join(base, "memory.use_hierarchy"))
	return errors.Is(err, os.ErrNotExist) || strings.TrimSpace(string(data)) == "1"
}

// removeLeft removes the groups that killed builds left in base. One that still has
// a process stays.
func removeLeft(base string) {
	dir, err := os.Open(base)
	if err != nil {
		return
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, stepPrefix)
		pid, _, _ := strings.Cut(rest, "-")
		n, err := strconv.Atoi(pid)
		if ok && err == nil && n > 0 && errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			_ = unix.Rmdir(filepath.Join(base, name))
		}
	}
}
