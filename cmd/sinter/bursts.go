package main

import (
	"io"
	"sync"
	"time"
)

const (
	burstDelay = 10 * time.Millisecond
	burstSize  = 64 << 10 // bytes
)

// bursts joins writes that follow one another closely: the plain display makes two for
// each line, which took longer than the commands that print many. What is written
// arrives within burstDelay.
type bursts struct {
	out io.Writer

	mu      sync.Mutex
	held    []byte
	pending bool // a timer is going to flush
}

// Write never fails: nobody looks at whether the display could be written.
func (b *bursts) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = append(b.held, p...)
	switch n := len(b.held); {
	case n >= burstSize && b.held[n-1] == '\n':
		b.flushLocked()
	case n > 0 && !b.pending:
		b.pending = true
		time.AfterFunc(burstDelay, b.flush)
	}
	return len(p), nil
}

func (b *bursts) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = false
	b.flushLocked()
}

func (b *bursts) flushLocked() {
	if len(b.held) > 0 {
		_, _ = b.out.Write(b.held)
	}
	b.held = b.held[:0]
}
