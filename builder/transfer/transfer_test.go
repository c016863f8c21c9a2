package transfer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-3": 0, "soon": 0, "99999999999999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat):  time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat): 0,
		strings.Repeat("9", 12):                       1 << 20 * time.Second,
	} {
		if got := RetryAfter(in, now); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// Only the time that one Read waits counts.
func TestWatch(t *testing.T) {
	for _, c := range []struct {
		name           string
		server, reader time.Duration // each pauses before every byte
		want           error
	}{
		{"slow reader", 0, 2 * StallTime, nil},
		{"slow server", StallTime - time.Second, 0, nil},
		{"stalled server", StallTime + time.Second, 0, ErrStalled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				r, w := io.Pipe()
				context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for range 3 {
						time.Sleep(c.server)
						w.Write([]byte("a"))
					}
					w.Close()
				}()
				body := Watch(r, StallTime, cancel)
				defer func() {
					body.Close()
					<-sent
				}()
				var err error
				for p := make([]byte, 1); err == nil; _, err = body.Read(p) {
					time.Sleep(c.reader)
				}
				if err == io.EOF {
					err = nil
				}
				if !errors.Is(err, c.want) || !errors.Is(context.Cause(ctx), c.want) {
					t.Errorf("read: %v, request: %v; want %v", err, context.Cause(ctx), c.want)
				}
			})
		})
	}
}

func TestPause(t *testing.T) {
	var waited time.Duration
	b := Backoff{First: time.Second, Longest: 10 * time.Second, Wait: func(_ context.Context, d time.Duration) error {
		waited = d
		return nil
	}}
	for _, tt := range []struct {
		n                  int
		asked, least, most time.Duration
	}{
		{1, 0, time.Second, 1250 * time.Millisecond},
		{2, 0, 2 * time.Second, 2500 * time.Millisecond},
		{4, 0, 8 * time.Second, 10 * time.Second},
		{100, 0, 10 * time.Second, 12500 * time.Millisecond},
		{1, 7 * time.Second, 7 * time.Second, 7 * time.Second},
	} {
		if err := b.Pause(t.Context(), tt.n, tt.asked); err != nil || waited < tt.least || waited > tt.most {
			t.Errorf("after %d failures, asked for %v: waited %v, %v", tt.n, tt.asked, waited, err)
		}
	}
}
