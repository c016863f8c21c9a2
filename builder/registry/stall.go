package registry

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// errStalled ends a transfer in which nothing has moved for too long.
var errStalled = errors.New("the transfer stalled")

// watched is a body that fails with errStalled when nothing comes for too long.
type watched struct {
	body   io.ReadCloser
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	late   atomic.Bool
}

func watch(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) *watched {
	w := &watched{body: body, limit: limit, cancel: cancel}
	w.timer = time.AfterFunc(limit, func() {
		w.late.Store(true)
		cancel(errStalled)
	})
	w.timer.Stop()
	return w
}

// Read counts only the time in which it waits: a slow consumer stalls nothing.
func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.limit)
	n, err := w.body.Read(p)
	w.timer.Stop()
	if err != nil && err != io.EOF && w.late.Load() {
		err = errStalled
	}
	return n, err
}

// Close ends the request.
func (w *watched) Close() error {
	w.timer.Stop()
	err := w.body.Close()
	w.cancel(nil)
	return err
}
