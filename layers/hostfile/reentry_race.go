//go:build race

package hostfile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// heldLocks are the locks that this process holds, by their paths. Only builds with
// the race detector keep them.
var heldLocks struct {
	mu     sync.Mutex
	byPath map[string][]heldLock
}

type heldLock struct {
	file  *os.File
	how   int
	taker string // the goroutine that took it
}

// checkReentry panics when the goroutine that is going to wait for a lock without a
// deadline holds it itself: it would wait for ever.
func checkReentry(ctx context.Context, path string, how int) {
	if _, ends := ctx.Deadline(); ends || ctx.Err() != nil {
		return
	}
	heldLocks.mu.Lock()
	defer heldLocks.mu.Unlock()
	for _, h := range stillHeld(lockKey(path)) {
		if h.taker == goroutine() && (how == unix.LOCK_EX || h.how == unix.LOCK_EX) {
			panic(fmt.Sprintf("the lock %s is taken by a goroutine that holds it", path))
		}
	}
}

// noteHeld notes a lock that was taken.
func noteHeld(path string, f *os.File, how int) {
	heldLocks.mu.Lock()
	defer heldLocks.mu.Unlock()
	if heldLocks.byPath == nil {
		heldLocks.byPath = map[string][]heldLock{}
	}
	key := lockKey(path)
	heldLocks.byPath[key] = append(stillHeld(key), heldLock{file: f, how: how, taker: goroutine()})
}

// stillHeld returns the locks with a path whose files are open.
func stillHeld(key string) []heldLock {
	return slices.DeleteFunc(heldLocks.byPath[key], func(h heldLock) bool {
		raw, err := h.file.SyscallConn()
		return err != nil || raw.Control(func(uintptr) {}) != nil
	})
}

func lockKey(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// goroutine names the calling goroutine, as in "goroutine 7".
func goroutine() string {
	var buf [64]byte
	name, _, _ := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte(" ["))
	return string(name)
}
