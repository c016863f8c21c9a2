package transfer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// StallTime is how long the other side may send nothing before a transfer fails.
const StallTime = 45 * time.Second

// ErrStalled ends a transfer in which nothing has moved for too long.
var ErrStalled = errors.New("the transfer stalled")

// watched is a body that fails with ErrStalled when nothing comes for too long.
type watched struct {
	body   io.ReadCloser
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	late   atomic.Bool
}

// Watch returns a body that cancels its request with ErrStalled, and fails with it,
// when one Read waits longer than limit. Close calls cancel(nil).
func Watch(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) io.ReadCloser {
	w := &watched{body: body, limit: limit, cancel: cancel}
	w.timer = time.AfterFunc(limit, func() {
		w.late.Store(true)
		cancel(ErrStalled)
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
		err = ErrStalled
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

// WatchSent makes the bodies of r end it with ErrStalled when the connection takes
// nothing for too long. r must not be in use.
func WatchSent(r *http.Request, limit time.Duration, cancel context.CancelCauseFunc) {
	r.Body = newSentBody(r.Body, limit, cancel)
	if get := r.GetBody; get != nil {
		r.GetBody = func() (io.ReadCloser, error) {
			body, err := get()
			if err != nil {
				return nil, err
			}
			return newSentBody(body, limit, cancel), nil
		}
	}
}

// sentBody is the body of a request. Between two reads the connection must take
// what was read.
type sentBody struct {
	io.ReadCloser
	limit time.Duration

	mu     sync.Mutex // held while closed is read or set
	timer  *time.Timer
	closed bool
}

func newSentBody(body io.ReadCloser, limit time.Duration, cancel context.CancelCauseFunc) *sentBody {
	b := &sentBody{ReadCloser: body, limit: limit}
	b.timer = time.AfterFunc(limit, func() { cancel(ErrStalled) })
	b.timer.Stop()
	return b
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.timer.Stop()
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && !b.closed {
		b.timer.Reset(b.limit)
	}
	return n, err
}

// Close ends the watch. The transport may call it during a Read.
func (b *sentBody) Close() error {
	b.mu.Lock()
	b.closed = true
	b.timer.Stop()
	b.mu.Unlock()
	return b.ReadCloser.Close()
}
