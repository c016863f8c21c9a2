package sandbox

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// rlimitNames are the names of limits as docker takes them.
var rlimitNames = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

type rlimit struct {
	resource int
	limit    unix.Rlimit
}

// rlimits are the command's limits: those asked for, and the number of open
// files as it was before the Go runtime raised it for itself. Programs that go
// through all numbers up to that limit would take minutes.
func rlimits(ulimits []Ulimit) ([]rlimit, error) {
	limits := []rlimit{{resource: unix.RLIMIT_NOFILE}}
	if err := originalFiles(&limits[0].limit); err != nil {
		return nil, err
	}
	for _, u := range ulimits {
		resource, ok := rlimitNames[u.Name]
		if !ok {
			return nil, &hintError{err: fmt.Errorf("ulimit %q is not known", u.Name), hint: "the names are those of docker build --ulimit, such as nofile, nproc and core"}
		}
		l := rlimit{resource: resource, limit: unix.Rlimit{Cur: uint64(u.Soft), Max: uint64(u.Hard)}}
		if l.limit.Cur > l.limit.Max {
			return nil, fmt.Errorf("ulimit %s: the soft limit %d is above the hard limit %d", u.Name, u.Soft, u.Hard)
		}
		limits = append(limits, l)
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
