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
	var pauses int
	lookUp := func(c Config) error {
		client := New(c)
		client.retry.Wait = func(context.Context, time.Duration) error {
			if pauses++; pauses == 3 {
				l, err := net.Listen("tcp", host)
				if err != nil {
					t.Fatal(err)
				}
				s := &http.Server{Handler: ggcr.New(ggcr.Logger(quietLog()))}
				t.Cleanup(func() { s.Close() })
				go s.Serve(l)
			}
			return nil
		}
		_, _, err := client.Resolve(t.Context(), mustRef(t, host+"/some/image:latest"))
		return err
	}
	if err := lookUp(Config{}); err == nil || pauses > 0 {
		t.Fatalf("without a number of attempts it was waited for %d times: %v", pauses, err)
	}
	if err := lookUp(Config{Attempts: 10}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the registry was not waited for: %v", err)
	}
	if pauses != 3 {
		t.Errorf("it was waited for %d times, not 3", pauses)
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
