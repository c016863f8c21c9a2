package web

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/parser"
)

// A download that breaks off is tried again, in whatever way HTTP/2 tells of it.
func TestBrokenStream(t *testing.T) {
	for name, breakOff := range map[string]func(w http.ResponseWriter){
		"in the body": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
		},
		"before the answer": func(http.ResponseWriter) {},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					t.Errorf("asked with %s", r.Proto)
				}
				if asked.Add(1) == 1 {
					breakOff(w)
					panic(http.ErrAbortHandler)
				}
				_, _ = w.Write([]byte("whole"))
			}))
			s.EnableHTTP2 = true
			s.StartTLS()
			t.Cleanup(s.Close)
			r := New(remote.Config{Root: t.TempDir()})
			t.Cleanup(func() { _ = r.Close() })
			r.backoff.First, r.client = time.Millisecond, s.Client()
			if _, err := r.Files(t.Context(), parser.HTTP{URL: s.URL + "/file"}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
