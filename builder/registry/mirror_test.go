package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A stalled transfer from a mirror goes on at the registry itself, and is
// not tried again and again there.
func TestStalledMirror(t *testing.T) {
	data, desc := randomBlob(50_000)
	mirror, good := newTestRegistry(t), newTestRegistry(t)
	mirror.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:10_000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	rest := &brokenBlobs{data: data, ranges: true, piece: len(data)}
	good.intercept(rest.handle)
	c := quick(Config{Mirrors: map[string][]string{good.host: {mirror.host}}})
	c.retry.stall = 20 * time.Millisecond
	if got := readBlob(t, c, good.host+"/a", desc); !bytes.Equal(got, data) {
		t.Error("got other bytes")
	}
	if n := mirror.count("GET /v2/a/blobs/"); n != 1 {
		t.Errorf("the mirror was asked %d times", n)
	}
}

// A mirror that answers with pages is given up; one that has another image is not.
func TestMirrorOfPages(t *testing.T) {
	upstream := newTestRegistry(t)
	if err := quick(Config{}).Push(t.Context(), upstream.host+"/a:1", imageSource(t, randomImage(t, 100, 1)), nil); err != nil {
		t.Fatal(err)
	}
	for answer, want := range map[string]int{"<html>": 1, "{}": 2} {
		mirror := newTestRegistry(t)
		mirror.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = w.Write([]byte(answer))
			return true
		})
		var warned []string
		c := quick(Config{Mirrors: map[string][]string{upstream.host: {"http://" + mirror.host}}, Warn: func(s string) { warned = append(warned, s) }})
		for range 2 {
			_, _, err := c.ResolveUsable(t.Context(), mustRef(t, upstream.host+"/a:1"), func(_ ocispec.Descriptor, data []byte) error {
				return fmt.Errorf("%s is not an image", data)
			})
			if err != nil {
				t.Error(err)
			}
		}
		if n := mirror.count("GET /v2/a/manifests/"); n != want || (len(warned) == 1) != (want == 1) {
			t.Errorf("the mirror that answers %s was asked %d times, warned %q", answer, n, warned)
		}
	}
}
