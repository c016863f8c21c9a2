package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 200, 1 << 20: 200, 24 << 20: 200, 48 << 20: 100, 60 << 20: 80, 96 << 20: 50, 1 << 40: 50} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d bytes: %d, want %d", live, got, want)
		}
	}
}

// The collector follows the heap as it grows.
func TestCollectBySize(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	collectBySize()
	large := make([]byte, 200<<20)
	now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for metrics.Read(now); now[0].Value.Uint64() != leastPercent; metrics.Read(now) {
		runtime.GC()
	}
	runtime.KeepAlive(large)
}
