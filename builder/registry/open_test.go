package registry

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
)

// signalling is a context that tells when it is waited for.
type signalling struct {
	context.Context
	once  sync.Once
	waits chan struct{}
}

func (s *signalling) Done() <-chan struct{} {
	s.once.Do(func() { close(s.waits) })
	return s.Context.Done()
}

// Who waits for the session that somebody else opens does not end with them.
func TestOpenOutlivesOthers(t *testing.T) {
	reg := newTestRegistry(t)
	if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", imageSource(t, randomImage(t, 1000, 0)), nil); err != nil {
		t.Fatal(err)
	}
	asked, over := make(chan struct{}), make(chan struct{})
	first := answerOnce(func(*http.Request) bool { return true }, func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-over
		panic(http.ErrAbortHandler)
	})
	reg.intercept(first)
	c := quick(Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancelled, waited := make(chan error, 1), make(chan error, 1)
	go func() {
		_, _, err := c.Resolve(ctx, mustRef(t, reg.host+"/a:1"))
		cancelled <- err
	}()
	<-asked
	waits := &signalling{Context: t.Context(), waits: make(chan struct{})}
	go func() {
		_, _, err := c.Resolve(waits, mustRef(t, reg.host+"/a:1"))
		waited <- err
	}()
	<-waits.waits
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	close(over)
	if err := <-waited; err != nil {
		t.Errorf("the second: %v", err)
	}
}
