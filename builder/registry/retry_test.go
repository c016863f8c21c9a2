package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// TestAttempts waits for a registry that begins to answer late, when it was said
// how often to try, and gives up at once when it was not.
func TestAttempts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lookUp := func(c Config) error {
		ref, err := ParseRef(host + "/some/image:latest")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = New(c).Resolve(ctx, ref)
		return err
	}
	if err := lookUp(Config{RetryDelay: time.Hour}); err == nil || ctx.Err() != nil {
		t.Fatalf("without a number of attempts it was waited for: %v", err)
	}
	go func() {
		time.Sleep(200 * time.Millisecond)
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Error(err)
			return
		}
		s := &http.Server{Handler: ggcr.New(ggcr.Logger(quietLog()))}
		t.Cleanup(func() { s.Close() })
		s.Serve(l)
	}()
	err = lookUp(Config{Attempts: 10, RetryDelay: 20 * time.Millisecond})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("the registry was not waited for: %v", err)
	}
}

// Who waits for a registry that says nothing is told so.
func TestSilentRegistryIsWarnedOf(t *testing.T) {
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer s.Close()
	warned := make(chan string, 1)
	client := &http.Client{Transport: &retrying{
		inner:  &http.Transport{},
		policy: &retryPolicy{attempts: 1, silence: 10 * time.Millisecond},
		warn: func(text string) {
			warned <- text
			close(done)
		},
	}}
	resp, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if text := <-warned; !strings.HasSuffix(text, "has not answered for 10ms") {
		t.Errorf("warned: %q", text)
	}
}
