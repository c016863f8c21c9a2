package parser_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// TestFrontendIsLeft: a build ends with its context while the frontend works on
// something that looks at no context, here a warning that nobody takes.
func TestFrontendIsLeft(t *testing.T) {
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	release := make(chan struct{})
	defer close(release)
	_, err := parser.Parse(ctx, amd64(), withDockerfile("FROM debian:12 as a\n"), func(parser.Warning) { // of "as"
		cancel(why)
		<-release
	})
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// slow answers a question when the context has ended, and not at once.
type slow struct {
	*memory
	interrupt context.CancelCauseFunc
	answering atomic.Bool
}

func (s *slow) ReadLocal(ctx context.Context, name, file string) ([]byte, error) {
	s.answering.Store(true)
	defer s.answering.Store(false)
	s.interrupt(errors.New("interrupted"))
	data, err := s.memory.ReadLocal(ctx, name, file)
	return data, err
}

// TestAnswersAreAwaited: what answers the frontend is not in use any more when a call
// has ended.
func TestAnswersAreAwaited(t *testing.T) {
	for name, call := range map[string]func(context.Context, parser.Resolver) error{
		"build": func(ctx context.Context, r parser.Resolver) error {
			_, err := parser.Parse(ctx, amd64(), r, nil)
			return err
		},
		"check": func(ctx context.Context, r parser.Resolver) error {
			_, err := parser.Call(ctx, amd64(), r, parser.Check)
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := &slow{memory: withDockerfile("FROM debian:12\n"), interrupt: cancel}
		_ = call(ctx, r) // the answer may have come first
		if r.answering.Load() {
			t.Errorf("%s: a question is still being answered", name)
		}
	}
}
