// Package transfer has what all HTTP transfers share: which failures are worth a retry,
// the pauses between attempts, and when a transfer counts as stalled. It sends no
// requests.
package transfer

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

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

// Backoff says how long to pause between attempts.
type Backoff struct {
	// First is the pause after the first failure. It doubles each time up to Longest,
	// and has some jitter. Who retries gives up when a server asks for more than
	// Longest.
	First, Longest time.Duration
	// Wait is Wait, but for tests.
	Wait func(context.Context, time.Duration) error
}

// Pause waits before the next attempt when n have failed, or as long as the server
// asked for. It fails when ctx ends.
func (b *Backoff) Pause(ctx context.Context, n int, asked time.Duration) error {
	d := b.First
	for ; n > 1 && d < b.Longest; n-- {
		d *= 2
	}
	d = min(d, b.Longest)
	d += time.Duration(rand.Int64N(int64(d)/4 + 1))
	return b.Wait(ctx, max(d, asked))
}

// Retry calls attempt, with its number from 1, and calls it again after a pause as long
// as it says so: asked is how long the server wants us to wait. It returns the error of
// the last attempt, or that of ctx.
func (b *Backoff) Retry(ctx context.Context, attempt func(n int) (again bool, asked time.Duration, err error)) error {
	for n := 1; ; n++ {
		again, asked, err := attempt(n)
		if !again {
			return err
		}
		if err := b.Pause(ctx, n, asked); err != nil {
			return err
		}
	}
}
