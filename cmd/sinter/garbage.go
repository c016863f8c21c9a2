package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The collector allows this many bytes of garbage, but at least half and at most twice
// as much as is live. So a build with nothing to do ends before it collects much, and
// one of hundreds of thousands of files needs half of its live heap on top, where Go's
// default needs as much again.
const (
	garbage      = 48 << 20
	leastPercent = 50
	mostPercent  = 200
)

// collectBySize makes the garbage collector follow the size of the heap, unless the
// environment configures it.
func collectBySize() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(mostPercent)
	followHeap(mostPercent)
}

// followHeap sets the percentage after each collection: a collection frees the marker, whose
// cleanup then runs.
func followHeap(set int) {
	marker := new(*int)
	runtime.AddCleanup(marker, func(set int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if p := garbagePercent(live[0].Value.Uint64()); p != set {
			debug.SetGCPercent(p)
			set = p
		}
		followHeap(set)
	}, set)
}

// garbagePercent is the percentage of the live heap that garbage may come to, in steps
// of ten.
func garbagePercent(live uint64) int {
	p := 100 * garbage / max(live, 1) / 10 * 10
	return int(min(max(p, leastPercent), mostPercent))
}
