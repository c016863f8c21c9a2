package pid1

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limit is a limit of setrlimit(2).
type Limit struct {
	Resource   int
	Soft, Hard uint64
}

type rlimit struct {
	resource int
	limit    unix.Rlimit
}

// rlimits are the command's limits: those asked for, and the number of open
// files as it was before the Go runtime raised it for itself. Programs that go
// through all numbers up to that limit would take minutes.
func rlimits(asked []Limit) ([]rlimit, error) {
	limits := []rlimit{{resource: unix.RLIMIT_NOFILE}}
	if err := originalFiles(&limits[0].limit); err != nil {
		return nil, err
	}
	for _, l := range asked {
		limits = append(limits, rlimit{l.Resource, unix.Rlimit{Cur: l.Soft, Max: l.Hard}})
	}
	return limits, nil
}

// originalFiles reads the limit of open files that this process was started
// with. The runtime keeps it to itself and restores it only on exec, so we try
// one that cannot succeed.
func originalFiles(limit *unix.Rlimit) error {
	var raised unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("reading the limit of open files: %w", err)
	}
	_ = syscall.Exec("", []string{""}, nil)
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, limit); err != nil {
		return fmt.Errorf("reading the limit of open files: %w", err)
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &raised)
}
