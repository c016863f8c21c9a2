package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/sinter-build/sinter/builder/transfer"
)

// retryPolicy says how often and how long to try.
type retryPolicy struct {
	attempts int
	transfer.Backoff
	// stall is how long nothing may come of a body that is read, and sendStall how
	// long nothing may be taken of one that is sent. The latter is longer: the
	// kernel takes more at a time.
	stall, sendStall time.Duration
	// silence is how long an answer may take before that is told.
	silence time.Duration
	// patience is how long an answer may take before the request counts as lost.
	patience patience
	// patient waits also for registries that have never answered.
	patient bool
}

func newRetryPolicy(c Config) retryPolicy {
	p := retryPolicy{
		attempts: 5, Backoff: transfer.Backoff{First: 300 * time.Millisecond, Longest: 90 * time.Second, Wait: transfer.Wait},
		stall: transfer.StallTime, sendStall: time.Minute, silence: 15 * time.Second,
		patience: patience{
			answer: 45 * time.Second, first: 20 * time.Second,
			mirror: 20 * time.Second, firstMirror: 8 * time.Second,
			storing: 10 << 20,
		},
	}
	if c.Attempts > 0 {
		p.attempts, p.patient = c.Attempts, true
	}
	if c.RetryDelay > 0 {
		p.First = c.RetryDelay
	}
	return p
}

// few is how many attempts failures are worth that cost much time, or seldom pass.
func (p *retryPolicy) few() int {
	if p.patient {
		return p.attempts
	}
	return min(3, p.attempts)
}

// corruptError is the failure of a transfer that ended early or delivered the
// wrong bytes. Another attempt may succeed.
type corruptError struct{ error }

func (e *corruptError) Unwrap() error { return e.error }

// intact calls fetch again as long as it fails with a corruptError.
func (p *retryPolicy) intact(ctx context.Context, fetch func() error) error {
	return p.Retry(ctx, func(n int) (again bool, asked time.Duration, err error) {
		err = fetch()
		var corrupt *corruptError
		return errors.As(err, &corrupt) && n < p.attempts, 0, err
	})
}

// onceKey is the key of contexts for requests that are sent once.
type onceKey struct{}

// once is for requests that the caller repeats, or does without.
func once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// retrying sends requests again that failed for a reason that may pass. A
// request whose body cannot be had again is sent once.
type retrying struct {
	inner  http.RoundTripper
	policy *retryPolicy
	// mirror says that another place can be asked when this one is silent.
	mirror bool
	warn   func(string)
	// answered has the hosts that have answered before: only of those is it
	// a passing state that they cannot be reached.
	answered sync.Map
}

func (t *retrying) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	err = t.policy.Retry(r.Context(), func(n int) (again bool, wait time.Duration, err error) {
		if n > 1 && r.GetBody != nil {
			// The request itself belongs to the caller.
			next := *r
			if next.Body, err = r.GetBody(); err != nil {
				return false, 0, err
			}
			r = &next
		}
		if resp, err = t.send(r); err == nil {
			t.answered.Store(r.URL.Host, true)
			wait = transfer.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
		}
		if !t.repeats(r) || n >= t.attempts(r, resp, err) || wait > t.policy.Longest {
			return false, 0, err
		}
		if resp != nil {
			// Reading the body makes the connection usable again.
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
			resp.Body.Close()
			resp = nil
		}
		if wait > 2*time.Second {
			t.warn(fmt.Sprintf("registry %s asks to wait for %s", r.URL.Host, wait.Round(time.Second)))
		}
		return true, wait, err
	})
	return resp, err
}

// repeats reports whether r can be sent again at all.
func (t *retrying) repeats(r *http.Request) bool {
	return r.Context().Err() == nil && r.Context().Value(onceKey{}) == nil && (!hasBody(r) || r.GetBody != nil)
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// attempts is how often to send a request whose answer was resp or err.
func (t *retrying) attempts(r *http.Request, resp *http.Response, err error) int {
	_, known := t.answered.Load(r.URL.Host)
	switch {
	case err == nil && transfer.TransientStatus(resp.StatusCode):
		return t.policy.attempts
	case err == nil, !passing(err):
		return 1
	case t.policy.patient:
		return t.policy.attempts
	case isUnreachable(err) && !known, isSilence(err) && t.mirror:
		return 1
	case isSilence(err) && !known:
		return min(2, t.policy.attempts)
	case isSilence(err):
		return t.policy.few()
	}
	return t.policy.attempts
}

// isUnreachable reports whether there was no connection at all.
func isUnreachable(err error) bool {
	var op *net.OpError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &op) && op.Op == "dial" && op.Timeout()
}

// passing reports whether a request that failed with err may succeed later.
func passing(err error) bool {
	return !errors.Is(err, errPlainRefused) && !errors.Is(err, errTLSRefused) && transfer.Transient(err)
}
