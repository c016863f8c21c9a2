package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestGuard: a run that takes too much is told to end, and ended if it does not listen.
func TestGuard(t *testing.T) {
	for name, c := range map[string]struct {
		limits limits
		inUse  uint64
		want   string
	}{
		"memory": {limits{time: time.Hour, memory: 64 << 20}, 65 << 20, "more than 64 MiB of memory"},
		"time":   {limits{memory: 64 << 20}, 1 << 20, "longer than 0s"},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var exited error
		c.limits.every = time.Millisecond
		c.limits.guard(ctx, func() uint64 { return c.inUse }, cancel, func(err error) { exited = err })
		if exited == nil || !strings.Contains(exited.Error(), c.want) || context.Cause(ctx) != exited {
			t.Errorf("%s: exits with %v, cause %v; want %q", name, exited, context.Cause(ctx), c.want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	end := func() uint64 { cancel(nil); return 1 }
	limits{time: time.Hour, memory: 2, every: time.Millisecond}.guard(ctx, end, cancel, func(err error) { t.Error("a run within its limits is ended:", err) })
}

func TestHeap(t *testing.T) {
	inUse := defaultLimits.heap()
	if n := inUse(); n < 1<<10 || n > defaultLimits.memory {
		t.Errorf("the heap has %d bytes", n)
	}
}

// TestBound: a process that takes more memory at once than the guard can see is ended.
func TestBound(t *testing.T) {
	const variable = "SINTER_TEST_TAKE"
	if os.Getenv(variable) != "" {
		if err := (limits{memory: 64 << 20}).bound(); err != nil {
			t.Fatal(err)
		}
		taken := make([]byte, 4<<30)
		t.Fatalf("took %d bytes", len(taken))
	}
	c := exec.Command(os.Args[0], "-test.run=^TestBound$")
	c.Env = append(os.Environ(), variable+"=1")
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "fatal error: runtime: out of memory") {
		t.Errorf("got %v:\n%s", err, out)
	}
}
