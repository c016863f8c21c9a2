//go:build race

package hostfile

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// A goroutine that would wait for itself for ever panics; whoever holds a lock no
// more, shares it or stops waiting does not.
func TestReentry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	take := func(ctx context.Context, how int) (closed func(), panicked bool) {
		defer func() { panicked = recover() != nil }()
		f, err := Lock(ctx, path, "a test", how)
		if err != nil {
			return func() {}, false
		}
		return func() { f.Close() }, false
	}
	for _, tt := range []struct {
		first, second int
		panics        bool
	}{
		{Shared, Shared, false}, {Shared, Exclusive, true}, {Exclusive, Shared, true}, {Exclusive, Exclusive, true},
	} {
		first, panicked := take(t.Context(), tt.first)
		if panicked {
			t.Errorf("%v: the first panics, which holds nothing", tt)
		}
		second, panicked := take(t.Context(), tt.second)
		if panicked != tt.panics {
			t.Errorf("%v: the second panics: %v", tt, panicked)
		}
		if second != nil {
			second()
		}
		if tt.panics {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if _, panicked := take(ctx, tt.second); panicked {
				t.Errorf("%v: the second panics, although it would not wait for ever", tt)
			}
			cancel()
		}
		first()
	}
}
