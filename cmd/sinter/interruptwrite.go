package main

import (
	"context"
	"io"
	"os"
	"sync"
	"time"
)

// writeGrace is how long a write may take after a signal: whoever
// reads gets its last words.
const writeGrace = 300 * time.Millisecond

// interruptibleWriter writes to a pipe, whose reader may have stopped reading. The
// system call knows of no context: once ended is closed, a write that takes longer
// than writeGrace is left behind, and all later ones fail.
type interruptibleWriter struct {
	to    io.Writer
	ended <-chan struct{}

	mu   sync.Mutex
	data []byte // what is written, perhaps even after Write
	left bool
}

// interruptibleOutput is w, or an interruptibleWriter if it is a pipe or a socket.
func interruptibleOutput(ctx context.Context, w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return w
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return w
	}
	return &interruptibleWriter{to: f, ended: ctx.Done()}
}

// Write implements io.Writer.
func (w *interruptibleWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left {
		return 0, context.Canceled
	}
	w.data = append(w.data[:0], p...)
	var n int
	var err error
	written := make(chan struct{})
	go func() {
		defer close(written)
		n, err = w.to.Write(w.data)
	}()
	select {
	case <-written:
		return n, err
	case <-w.ended:
	}
	late := time.NewTimer(writeGrace)
	defer late.Stop()
	select {
	case <-written:
		return n, err
	case <-late.C:
		w.left = true
		return 0, context.Canceled
	}
}
