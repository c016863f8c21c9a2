// Package transfer has what all HTTP transfers share: which answers are worth
// a retry, how long a server asks to wait, and when a transfer counts as stalled.
// It sends no requests.
package transfer

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// TransientStatus reports whether the same request may succeed later.
func TransientStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// RetryAfter parses a Retry-After header: seconds or a date. It returns 0 if the
// header is missing, malformed or in the past.
func RetryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil {
		return time.Duration(min(max(n, 0), 1<<20)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

// Wait returns after d, or with the context's cause as soon as ctx ends.
func Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
