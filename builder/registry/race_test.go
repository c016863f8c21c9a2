package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A mirror that has to fetch what it is asked for is slow: then the registry is
// asked too, and the mirror's answer counts still. It is used again.
func TestSlowMirror(t *testing.T) {
	img := imageSource(t, randomImage(t, 1000, 1))
	for name, origin := range map[string]http.HandlerFunc{
		"registry that lacks it": refusal(http.StatusNotFound, "NAME_UNKNOWN"),
		"registry that refuses":  refusal(http.StatusForbidden, "DENIED"),
		"silent registry":        func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		for _, slow := range []string{"/v2/", "/v2/a/"} {
			t.Run(fmt.Sprint(name, ", ", slow), func(t *testing.T) {
				t.Parallel()
				mirror, reg := newTestRegistry(t), newTestRegistry(t)
				if err := quick(Config{}).Push(t.Context(), mirror.host+"/a:1", img, nil); err != nil {
					t.Fatal(err)
				}
				asked := make(chan struct{}, 100)
				reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					asked <- struct{}{}
					origin(w, r)
					return true
				})
				mirror.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
					if slow == r.URL.Path || slow != "/v2/" && strings.HasPrefix(r.URL.Path, slow) {
						<-asked
					}
					return false
				})
				c := impatient(Config{
					Mirrors: map[string][]string{reg.host: {mirror.host}},
					Warn:    func(text string) { t.Error(text) },
				}, func(p *patience) { p.firstMirror, p.mirror = time.Millisecond, time.Millisecond })
				// Only a question to the registry lets the mirror answer.
				c.retry.silence = 0
				if _, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/a:1")); err != nil {
					t.Fatal(err)
				}
				for d, data := range img.blobs {
					if d != img.root.Digest {
						readBlob(t, c, reg.host+"/a", ocispec.Descriptor{Digest: d, Size: int64(len(data))})
					}
				}
			})
		}
	}
}

// What comes too late is closed, and no answer of another place is mixed up with it.
func TestLateMirror(t *testing.T) {
	data, desc := randomBlob(50_000)
	mirror, reg := newTestRegistry(t), newTestRegistry(t)
	var times atomic.Int32
	asked := make(chan struct{})
	mirror.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if times.Add(1) == 1 {
			close(asked)
		}
		<-r.Context().Done()
		return true
	})
	blobs := &brokenBlobs{data: data, ranges: true, piece: len(data)}
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		<-asked
		return blobs.handle(w, r)
	})
	var warned []string
	c := impatient(Config{
		Mirrors: map[string][]string{reg.host: {mirror.host}},
		Warn:    func(text string) { warned = append(warned, text) },
	}, func(p *patience) { p.firstMirror, p.mirror = time.Millisecond, time.Millisecond })
	// The registry has the same bytes for all digests.
	for _, d := range []digest.Digest{desc.Digest, digest.FromString("another")} {
		r, err := c.Blob(t.Context(), reg.host+"/a", ocispec.Descriptor{Digest: d, Size: desc.Size})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %v", len(got), err)
		}
	}
	if n := times.Load(); n != 1 || len(warned) != 1 || !strings.Contains(warned[0], "the mirror is not used") {
		t.Errorf("the mirror was asked %d times, warned %q", n, warned)
	}
}
