package registry

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// brokenBlobs serves one blob and breaks off after so many bytes, time and
// again. Without ranges every answer begins at the beginning.
type brokenBlobs struct {
	data     []byte
	ranges   bool
	piece    int // bytes beyond the start of the answer, or beyond what was served before
	stall    bool
	requests atomic.Int32
	served   atomic.Int64
}

func (b *brokenBlobs) handle(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
		return false
	}
	b.requests.Add(1)
	from, to := 0, 0
	if b.ranges {
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		to = from + b.piece
	} else {
		to = int(b.served.Load()) + b.piece
	}
	to = min(to, len(b.data))
	b.served.Store(int64(to))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b.data)-1, len(b.data)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(b.data)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(b.data[from:to])
	if to == len(b.data) {
		return true
	}
	_ = http.NewResponseController(w).Flush()
	if b.stall {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

func randomBlob(n int) ([]byte, ocispec.Descriptor) {
	data := make([]byte, n)
	_, _ = rand.Read(data)
	return data, ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(n)}
}

func TestBlobResumes(t *testing.T) {
	data, desc := randomBlob(300_000)
	for _, tt := range []struct {
		name    string
		server  *brokenBlobs
		atLeast int32
	}{
		{"with ranges", &brokenBlobs{data: data, ranges: true, piece: 40_000}, 8},
		{"without ranges", &brokenBlobs{data: data, piece: 70_000}, 5},
		{"stalling", &brokenBlobs{data: data, ranges: true, piece: 150_000, stall: true}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reg := newTestRegistry(t)
			reg.intercept(tt.server.handle)
			got := readBlob(t, quick(Config{}), reg.host+"/a", desc)
			if !bytes.Equal(got, data) {
				t.Errorf("got %d other bytes", len(got))
			}
			if n := tt.server.requests.Load(); n < tt.atLeast {
				t.Errorf("%d requests, want at least %d", n, tt.atLeast)
			}
		})
	}
}

func TestBlobGivesUp(t *testing.T) {
	data, desc := randomBlob(50_000)
	reg := newTestRegistry(t)
	server := &brokenBlobs{data: data, ranges: true, piece: 0}
	reg.intercept(server.handle)
	r, err := quick(Config{}).Blob(t.Context(), reg.host+"/a", desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err = io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if n := server.requests.Load(); n < 3 || n > 10 {
		t.Errorf("tried %d times", n)
	}
}

func TestBlobOfWrongSize(t *testing.T) {
	data, desc := randomBlob(1000)
	reg := newTestRegistry(t)
	reg.intercept((&brokenBlobs{data: data, piece: 1000}).handle)
	desc.Size = 2000
	_, err := quick(Config{}).Blob(t.Context(), reg.host+"/a", desc)
	wantError(t, err, "1000 bytes where the manifest says 2000", "")
}

func TestBlobGoesToNextMirror(t *testing.T) {
	data, desc := randomBlob(200_000)
	broken, good := newTestRegistry(t), newTestRegistry(t)
	served := 0
	broken.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		if served++; served > 1 {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:50_000])
		panic(http.ErrAbortHandler)
	})
	rest := &brokenBlobs{data: data, ranges: true, piece: len(data)}
	good.intercept(rest.handle)
	c := quick(Config{Mirrors: map[string][]string{good.host: {broken.host}}})
	if got := readBlob(t, c, good.host+"/a", desc); !bytes.Equal(got, data) {
		t.Error("got other bytes")
	}
	if rest.requests.Load() == 0 {
		t.Error("the registry itself was not asked")
	}
}

// A blob that breaks off is fetched from its beginning when the registry does not
// understand what is asked for of it.
func TestBlobOfRefusedRange(t *testing.T) {
	data, desc := randomBlob(20_000)
	for name, answer := range map[string]func(w http.ResponseWriter){
		"416":           func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
		"no range":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusPartialContent) },
		"unknown total": func(w http.ResponseWriter) { partial(w, fmt.Sprintf("bytes 5000-%d/*", len(data)-1)) },
		"another part":  func(w http.ResponseWriter) { partial(w, fmt.Sprintf("bytes 4999-%d/%d", len(data)-1, len(data))) },
		"a piece":       func(w http.ResponseWriter) { partial(w, fmt.Sprintf("bytes 5000-5999/%d", len(data))) },
		"nonsense":      func(w http.ResponseWriter) { partial(w, "all of it") },
	} {
		t.Run(name, func(t *testing.T) {
			reg := newTestRegistry(t)
			first := true
			reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/"):
					return false
				case r.Header.Get("Range") != "":
					answer(w)
				case first:
					first = false
					w.Header().Set("Content-Length", fmt.Sprint(len(data)))
					_, _ = w.Write(data[:5000])
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				default:
					_, _ = w.Write(data)
				}
				return true
			})
			if got := readBlob(t, quick(Config{}), reg.host+"/a", desc); !bytes.Equal(got, data) {
				t.Errorf("got %d other bytes", len(got))
			}
		})
	}
}

func partial(w http.ResponseWriter, contentRange string) {
	w.Header().Set("Content-Range", contentRange)
	w.WriteHeader(http.StatusPartialContent)
}
