package hint

import (
	"errors"
	"fmt"
	"testing"
)

// TestWhichHint: the innermost part of an error knows best, unless one says that its
// hint counts before.
func TestWhichHint(t *testing.T) {
	inner := Add(errors.New("inner"), "inner")
	for want, err := range map[string]error{
		"inner":  Add(fmt.Errorf("outer: %w", inner), "outer"),
		"first":  fmt.Errorf("around: %w", &Error{Err: inner, Hint: "first", First: true}),
		"joined": errors.Join(errors.New("none"), Add(errors.New("a"), "joined"), inner),
		"":       fmt.Errorf("none: %w", errors.New("none")),
	} {
		if got := Of(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
