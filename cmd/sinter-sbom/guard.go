package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/layers/hint"
)

// limits are those of one run. What is in an image is not trusted: an archive of some
// kilobytes can be made to fill all memory, or to hold millions of others.
type limits struct {
	time   time.Duration
	memory uint64 // of Go's heap, in bytes
	// grace is how long the run may take to end when it is told to.
	grace time.Duration
	// every is how often memory is looked at.
	every time.Duration
}

var defaultLimits = limits{time: time.Hour, memory: 3 << 30, grace: 2 * time.Second, every: 50 * time.Millisecond}

// guard watches a run until ctx ends. At a limit it cancels the run, and calls exit unless
// ctx ends soon after: catalogers do not look at their context while they unpack a file.
func (l limits) guard(ctx context.Context, inUse func() uint64, cancel context.CancelCauseFunc, exit func(error)) {
	began := time.Now()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var err error
		switch n := inUse(); {
		case n > l.memory:
			err = fmt.Errorf("finding packages takes more than %d MiB of memory", l.memory>>20)
		case time.Since(began) > l.time:
			err = fmt.Errorf("finding packages takes longer than %v", l.time)
		default:
			continue
		}
		err = hint.Add(err, sbom.ExpandsHint)
		cancel(err)
		time.Sleep(l.grace)
		exit(err)
		return
	}
}

// slack is how much more than the limit of the heap the process may take, in bytes. Buffers
// that grow take gigabytes between two looks.
const slack = 1 << 30

// bound lets the kernel refuse memory beyond the limit and the slack: the runtime then ends
// the process, with a trace that builder/sbom puts one line in place of.
func (l limits) bound() error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &now); err != nil {
		return err
	}
	now.Cur = min(now.Cur, l.memory+slack)
	return unix.Setrlimit(unix.RLIMIT_DATA, &now)
}

// heap returns how much of Go's heap is in use, in bytes. It makes the runtime collect
// garbage more often when that nears the limit.
func (l limits) heap() func() uint64 {
	debug.SetMemoryLimit(int64(l.memory))
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	return func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
}
