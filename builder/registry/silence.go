package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// patience is how long to wait for an answer.
type patience struct {
	answer time.Duration // of a host that has answered before
	first  time.Duration // of one that has not
	// mirror and firstMirror are for mirrors: the registry itself can be asked.
	mirror, firstMirror time.Duration
	// stored is for answers to uploads, after the last byte was sent.
	stored time.Duration
}

// silentError is about a request that got no answer.
type silentError struct{ waited time.Duration }

func (e *silentError) Error() string { return fmt.Sprintf("no answer within %s", e.waited) }

// Timeout marks the error as net.Error does.
func (e *silentError) Timeout() bool { return true }

// Is makes the error one of timeouts, as those of net/http are.
func (e *silentError) Is(target error) bool { return target == context.DeadlineExceeded }

// isSilence reports whether a request failed because nobody answered in time.
func isSilence(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// send sends r once. Who waits for long is told why, and who waits too long gets a
// silentError.
func (t *retrying) send(r *http.Request) (*http.Response, error) {
	if hasBody(r) && r.Context().Value(onceKey{}) != nil {
		return t.inner.RoundTrip(r) // a large body: the transport begins to count after it
	}
	if t.policy.silence > 0 {
		silent := time.AfterFunc(t.policy.silence, func() {
			t.warn(fmt.Sprintf("registry %s has not answered for %s", r.URL.Host, t.policy.silence))
		})
		defer silent.Stop()
	}
	limit := t.limit(r.URL.Host)
	if limit <= 0 {
		return t.inner.RoundTrip(r)
	}
	silent := &silentError{limit}
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(limit, func() { cancel(silent) })
	resp, err := t.inner.RoundTrip(r.WithContext(ctx))
	late := !timer.Stop()
	if err == nil && !late {
		resp.Body = &endingBody{resp.Body, cancel}
		return resp, nil
	}
	if err == nil {
		resp.Body.Close()
	}
	if late && r.Context().Err() == nil {
		err = silent
	}
	cancel(nil)
	return nil, err
}

// limit is how long to wait for an answer of host.
func (t *retrying) limit(host string) time.Duration {
	p := &t.policy.patience
	_, known := t.answered.Load(host)
	switch {
	case t.mirror && known:
		return p.mirror
	case t.mirror:
		return p.firstMirror
	case known:
		return p.answer
	}
	return p.first
}

// endingBody ends its request's context when it is closed.
type endingBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close ends the request.
func (b *endingBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
