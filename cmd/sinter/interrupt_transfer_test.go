package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// TestInterruptedTransfer: TERM ends a push or pull whose registry does not answer,
// whatever it was asked.
func TestInterruptedTransfer(t *testing.T) {
	every := func(*http.Request) bool { return true }
	method := func(name, part string) func(r *http.Request) bool {
		return func(r *http.Request) bool { return r.Method == name && strings.Contains(r.URL.Path, part) }
	}
	push := []string{"push", "-q", "kept", "HOST/a:1"}
	for _, tt := range []struct {
		name   string
		silent func(r *http.Request) bool
		args   []string
	}{
		{"push, at all", every, push},
		{"push, question", method(http.MethodHead, "/blobs/"), push},
		{"push, beginning", method(http.MethodPost, "/blobs/"), push},
		{"push, blob", method(http.MethodPut, "/blobs/"), push},
		{"push, manifest", method(http.MethodPut, "/manifests/"), push},
		{"build --push", method(http.MethodPut, "/blobs/"), []string{"build", "-t", "HOST/a:1", "--push", "."}},
		{"pull, at all", every, []string{"pull", "HOST/base:1"}},
		{"pull, manifest", method(http.MethodGet, "/manifests/"), []string{"pull", "HOST/base:1"}},
		{"pull, blob", method(http.MethodGet, "/blobs/"), []string{"pull", "HOST/base:1"}},
		{"build", method(http.MethodGet, "/blobs/"), []string{"build", "--build-context", "base=docker-image://HOST/base:1", "-f", "from", "."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPusher(t)
			writeAt(t, p.dir+"/from", []byte("FROM base\nRUN true\n"))
			p.must(t, "build", "-q", "-t", "kept", ".")
			base := newPusher(t)
			writeAt(t, base.dir+"/Dockerfile", []byte("FROM scratch\nCOPY Dockerfile /base\n"))
			base.must(t, "build", "-q", "-t", "base", ".")
			s := &silentRegistry{inner: ggcr.New(ggcr.Logger(quietLog())), asked: make(chan struct{})}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			host := server.Listener.Addr().String()
			base.must(t, "push", "-q", "base", host+"/base:1")
			s.fall(tt.silent)
			args := make([]string, len(tt.args))
			for i, arg := range tt.args {
				args[i] = strings.ReplaceAll(arg, "HOST", host)
			}
			c := exec.Command(programName, args...)
			end := p.begin(t, c)
			go func() {
				<-s.asked
				_ = c.Process.Signal(syscall.SIGTERM)
			}()
			if out, code := end(); code != exitInterrupted || !strings.Contains(out, "error: interrupted") {
				t.Errorf("code %d, want %d\n%s", code, exitInterrupted, out)
			}
		})
	}
}

// silentRegistry is a registry that leaves some requests without an answer.
type silentRegistry struct {
	inner http.Handler
	asked chan struct{} // closed when there was such a request

	mu     sync.Mutex
	silent func(r *http.Request) bool
	once   sync.Once
}

func (s *silentRegistry) fall(silent func(r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

func (s *silentRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	silent := s.silent != nil && s.silent(r)
	s.mu.Unlock()
	if !silent {
		s.inner.ServeHTTP(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	s.once.Do(func() { close(s.asked) })
	<-r.Context().Done()
}
