package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Garbage may come to this many bytes, but to no less than half of what is live and to
// no more than twice that. So a build with nothing to do ends before it collects much,
// and one of hundreds of thousands of files takes half of its live heap on top, not all
// of it again, which is Go's default.
const (
	garbage      = 48 << 20
	leastPercent = 50
	mostPercent  = 200
)

// collectBySize makes the garbage collector follow the size of the heap, unless the
// user has said how it shall be.
func collectBySize() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(mostPercent)
	followHeap(mostPercent)
}

// followHeap sets the percentage after each collection, which is what frees the marker.
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
