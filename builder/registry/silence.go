package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/sinter-build/sinter/builder/transfer"
)

// patience is how long to wait for an answer.
type patience struct {
	answer time.Duration // of a host that has answered before
	first  time.Duration // of one that has not
	// mirror and firstMirror are those of mirrors until the next place is asked too.
	mirror, firstMirror time.Duration
	// storing is how much of an upload a registry stores in a second, at least, in
	// bytes. The time counts from its last byte.
	storing int64
}

// silentError is about a request that got no answer.
type silentError struct{ waited time.Duration }

func (e *silentError) Error() string { return fmt.Sprintf("no answer within %s", e.waited) }

// Timeout marks the error as net.Error does.
func (e *silentError) Timeout() bool { return true }

// Is makes the error one of timeouts, as those of net/http are.
func (e *silentError) Is(target error) bool { return target == context.DeadlineExceeded }

// isSilence reports whether a request failed because nobody answered, or took what
// was sent, in time.
func isSilence(err error) bool {
	var timeout net.Error
	return errors.Is(err, transfer.ErrStalled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// send sends r once. A long wait for the answer is warned of; one that is too long
// ends with a silentError. Reading the answer's body fails when it stalls.
func (t *retrying) send(r *http.Request) (*http.Response, error) {
	limit := t.limit(r)
	silent := &silentError{limit}
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &waiting{
		warning: t.policy.silence, limit: limit, patience: t.patience(r),
		warn: func() {
			t.warn(fmt.Sprintf("registry %s has not answered for %s", r.URL.Host, t.policy.silence))
		},
		end: func() { cancel(silent) },
	}
	w.tell, _ = ctx.Value(silenceKey{}).(func())
	sent := r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { w.start() },
	}))
	if hasBody(r) {
		transfer.WatchSent(sent, t.policy.sendStall, cancel)
	} else {
		w.start()
	}
	resp, err := t.inner.RoundTrip(sent)
	late := w.stop()
	if err == nil && !late {
		resp.Body = transfer.Watch(resp.Body, t.policy.stall, cancel)
		return resp, nil
	}
	if err == nil {
		resp.Body.Close()
	}
	switch {
	case r.Context().Err() != nil:
	case late:
		err = silent
	case errors.Is(context.Cause(ctx), transfer.ErrStalled):
		err = transfer.ErrStalled
	}
	cancel(nil)
	return nil, err
}

// waiting is a wait for an answer.
type waiting struct {
	patience, warning, limit time.Duration // 0 is never
	tell, warn, end          func()        // tell is optional

	mu      sync.Mutex
	timers  []*time.Timer
	stopped bool
	late    bool
}

// start begins the wait. The transport may call it late, or more than once.
func (w *waiting) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.timers != nil {
		return
	}
	if w.limit > 0 {
		w.timers = append(w.timers, time.AfterFunc(w.limit, w.expire))
	}
	if w.tell != nil && w.patience > 0 {
		w.timers = append(w.timers, time.AfterFunc(w.patience, w.tell))
	}
	if w.warning > 0 && (w.warning < w.limit || w.limit == 0) {
		w.timers = append(w.timers, time.AfterFunc(w.warning, w.warn))
	}
}

func (w *waiting) expire() {
	w.mu.Lock()
	w.late = !w.stopped
	late := w.late
	w.mu.Unlock()
	if late {
		w.end()
	}
}

// stop ends the wait and reports whether it took too long.
func (w *waiting) stop() (late bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	for _, t := range w.timers {
		t.Stop()
	}
	return w.late
}

// limit is how long to wait for the answer to r.
func (t *retrying) limit(r *http.Request) time.Duration {
	p := &t.policy.patience
	_, known := t.answered.Load(r.URL.Host)
	switch {
	case hasBody(r) && p.storing > 0:
		// Who took all of it lives.
		return p.answer + time.Duration(r.ContentLength/p.storing)*time.Second
	case known || hasBody(r) || t.mirror:
		return p.answer
	}
	return p.first
}

// patience is how long to wait until whoever wants to know of the silence is told.
func (t *retrying) patience(r *http.Request) time.Duration {
	p := &t.policy.patience
	if _, known := t.answered.Load(r.URL.Host); known {
		return p.mirror
	}
	return p.firstMirror
}
