// Package archivetest has what the tests of all readers of tars and files share.
// Nothing else imports it.
package archivetest

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

const blockSize = 512

// RepairAll returns a copy of a tar in which every block that looks like a
// header has the right checksum. Next to nothing that a fuzzer makes up would
// get past a reader otherwise.
func RepairAll(data []byte) []byte {
	data = bytes.Clone(data)
	for i := 0; i+blockSize <= len(data); i += blockSize {
		if bytes.HasPrefix(data[i+257:], []byte("ustar")) {
			Repair(data[i : i+blockSize])
		}
	}
	return data
}

// Repair gives a header block the checksum it should have.
func Repair(block []byte) {
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block[:blockSize] {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// EndsAfter returns a context that ends when it was asked that many times whether it
// has. A loop over one file that asks often enough is left in the middle of the file.
func EndsAfter(asked int) context.Context { return &ending{Context: context.Background(), left: asked} }

type ending struct {
	context.Context
	mu   sync.Mutex
	left int
}

func (e *ending) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// Heap returns how many bytes of the heap are in use.
func Heap() int64 {
	runtime.GC()
	runtime.GC() // what has finalizers goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// CheckRoom fails when what build returns takes more than most bytes of the heap for
// each of n files. What build captures is not counted.
func CheckRoom(t testing.TB, n, most int64, build func() any) {
	t.Helper()
	before := Heap()
	built := build()
	took := Heap() - before
	runtime.KeepAlive(built)
	runtime.KeepAlive(build)
	if took/n > most {
		t.Errorf("%d bytes for each file, more than %d", took/n, most)
	}
}
