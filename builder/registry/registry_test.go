package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/progress"
)

// testRegistry is a registry in this process with what happened to it. before
// may answer a request in its place, by returning true.
type testRegistry struct {
	host string

	mu       sync.Mutex
	requests []string
	before   func(w http.ResponseWriter, r *http.Request) bool
	// change changes what the registry answers; optional.
	change func(r *http.Request, rec *httptest.ResponseRecorder)
}

func newTestRegistry(t *testing.T, opts ...ggcr.Option) *testRegistry {
	t.Helper()
	reg := &testRegistry{}
	inner := ggcr.New(append(opts, ggcr.Logger(quietLog()))...)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.mu.Lock()
		reg.requests = append(reg.requests, r.Method+" "+r.URL.Path)
		before := reg.before
		reg.mu.Unlock()
		switch {
		case before != nil && before(w, r):
		case reg.change == nil:
			inner.ServeHTTP(w, r)
		default:
			rec := httptest.NewRecorder()
			inner.ServeHTTP(rec, r)
			reg.change(r, rec)
			maps.Copy(w.Header(), rec.Header())
			w.WriteHeader(rec.Code)
			_, _ = io.Copy(w, rec.Body)
		}
	}))
	t.Cleanup(s.Close)
	reg.host = strings.TrimPrefix(s.URL, "http://")
	return reg
}

func (r *testRegistry) intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before, r.requests = f, nil
}

// count returns how many requests began with prefix.
func (r *testRegistry) count(prefix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, line := range r.requests {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// quick is a client that does not wait long.
func quick(c Config) *Client {
	if c.Keychain == nil {
		c.Keychain = authn.NewMultiKeychain()
	}
	client := New(c)
	client.retry.First = time.Millisecond
	client.retry.stall, client.retry.sendStall = time.Second, time.Second
	return client
}

// source is a v1.Image or v1.ImageIndex as a Source.
type source struct {
	root    ocispec.Descriptor
	blobs   map[digest.Digest][]byte
	origins []string
}

func (s *source) Root() ocispec.Descriptor       { return s.root }
func (s *source) Origins(digest.Digest) []string { return s.origins }
func (s *source) Open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s *source) put(t *testing.T, data []byte, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s.blobs[digest.FromBytes(data)] = data
}

func (s *source) addImage(t *testing.T, img v1.Image) {
	t.Helper()
	raw, err := img.RawManifest()
	s.put(t, raw, err)
	raw, err = img.RawConfigFile()
	s.put(t, raw, err)
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		s.put(t, data, err)
	}
}

func imageSource(t *testing.T, img v1.Image) *source {
	t.Helper()
	s := &source{blobs: map[digest.Digest][]byte{}}
	s.addImage(t, img)
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	mt, err := img.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	size, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	s.root = ocispec.Descriptor{MediaType: string(mt), Digest: digest.Digest(d.String()), Size: size}
	return s
}

func randomImage(t *testing.T, size, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func mustRef(t *testing.T, s string) Ref {
	t.Helper()
	r, err := ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkImage recomputes every digest of an image in a registry.
func checkImage(t *testing.T, ref string, opts ...remote.Option) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(r, opts...)
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
}

func TestPushAndPull(t *testing.T) {
	reg := newTestRegistry(t)
	c := quick(Config{})
	img := imageSource(t, randomImage(t, 10_000, 5))
	ref := reg.host + "/team/app:1"
	var mu sync.Mutex
	done := map[string]int64{}
	err := c.Push(t.Context(), ref, img, func(p progress.Update) {
		mu.Lock()
		defer mu.Unlock()
		if !p.Done.IsZero() {
			done[p.ID] = p.Current
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != 6 {
		t.Errorf("progress of %d blobs, want 6: %v", len(done), done)
	}
	checkImage(t, ref)

	reg.intercept(nil)
	if err := c.Push(t.Context(), ref, img, nil); err != nil {
		t.Fatal(err)
	}
	if n := reg.count("POST"); n != 0 {
		t.Errorf("pushed again, %d blobs were sent", n)
	}

	desc, data, err := c.Resolve(t.Context(), mustRef(t, ref))
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest != img.root.Digest || digest.FromBytes(data) != desc.Digest || desc.MediaType != img.root.MediaType || desc.Size != img.root.Size {
		t.Errorf("resolved %+v, want %+v", desc, img.root)
	}
	head, err := c.Head(t.Context(), mustRef(t, ref))
	if err != nil || head.Digest != desc.Digest || head.Size != desc.Size {
		t.Errorf("head %+v, %v, want %+v", head, err, desc)
	}
	for d, want := range img.blobs {
		if d == desc.Digest {
			continue
		}
		got := readBlob(t, c, reg.host+"/team/app", ocispec.Descriptor{Digest: d, Size: int64(len(want))})
		if !bytes.Equal(got, want) {
			t.Errorf("blob %s has changed", d)
		}
	}
}

func readBlob(t *testing.T, c *Client, repo string, desc ocispec.Descriptor) []byte {
	t.Helper()
	r, err := c.Blob(t.Context(), repo, desc)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPushIndex(t *testing.T) {
	reg := newTestRegistry(t)
	idx, err := random.Index(2000, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	s := &source{blobs: map[digest.Digest][]byte{}}
	raw, err := idx.RawManifest()
	s.put(t, raw, err)
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		img, err := idx.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		s.addImage(t, img)
	}
	s.root = ocispec.Descriptor{MediaType: string(m.MediaType), Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	ref := reg.host + "/multi:all"
	if err := quick(Config{}).Push(t.Context(), ref, s, nil); err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(r)
	if err == nil {
		err = validate.Index(got)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The tag must come last, when all it refers to is there.
	if last := reg.requests[len(reg.requests)-1]; reg.count("PUT /v2/multi/manifests/all") != 1 || strings.HasPrefix(last, "PUT /v2/multi/blobs") {
		t.Errorf("the last request was %s", last)
	}
}

func TestPushRefusesWrongImages(t *testing.T) {
	reg := newTestRegistry(t)
	c := quick(Config{})
	img := imageSource(t, randomImage(t, 100, 1))
	err := c.Push(t.Context(), reg.host+"/a@"+digest.FromString("other").String(), img, nil)
	if err == nil || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("pushed under another digest: %v", err)
	}
	for d := range img.blobs {
		if d != img.root.Digest {
			delete(img.blobs, d)
		}
	}
	err = c.Push(t.Context(), reg.host+"/a:1", img, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pushed without blobs: %v", err)
	}
	if reg.count("PUT /v2/a/manifests") != 0 {
		t.Error("the manifest was pushed nevertheless")
	}
}

func TestRetries(t *testing.T) {
	reg := newTestRegistry(t)
	img := imageSource(t, randomImage(t, 5000, 2))
	ref := reg.host + "/app:1"
	failures := map[string]int{}
	flaky := func(status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			reg.mu.Lock()
			defer reg.mu.Unlock()
			key := r.Method + strings.SplitN(r.URL.Path, "uploads/", 2)[0]
			failures[key]++
			if failures[key] > 2 {
				return false
			}
			// A part of the body is read, as when a proxy fails on the way.
			_, _ = io.CopyN(io.Discard, r.Body, 100)
			w.WriteHeader(status)
			return true
		}
	}
	for _, status := range []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusInternalServerError} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			clear(failures)
			reg.intercept(flaky(status))
			c := quick(Config{})
			if err := c.Push(t.Context(), ref, img, nil); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Resolve(t.Context(), mustRef(t, ref)); err != nil {
				t.Fatal(err)
			}
			reg.intercept(nil)
			checkImage(t, ref)
		})
	}
}

func TestRetryAfterIsKept(t *testing.T) {
	reg := newTestRegistry(t)
	var warned []string
	c := quick(Config{Warn: func(s string) { warned = append(warned, s) }})
	first := true
	var waited []time.Duration
	c.retry.Wait = func(_ context.Context, d time.Duration) error {
		waited = append(waited, d)
		return nil
	}
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !first {
			return false
		}
		first = false
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	_, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/none:1"))
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v, want that it is not found", err)
	}
	if !slices.Equal(waited, []time.Duration{3 * time.Second}) {
		t.Errorf("waited %s, not once for 3s", waited)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "3s") {
		t.Errorf("warned %q", warned)
	}
}

func TestLongRetryAfterFails(t *testing.T) {
	reg := newTestRegistry(t)
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, reg.host+"/a:1"))
	wantError(t, err, "no more requests", "sinter login")
}

// wantError wants an error with a text and a hint.
func wantError(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got the error %v, want %q in it", err, text)
		return
	}
	var h interface{ HintText() string }
	if hint != "" && (!errors.As(err, &h) || !strings.Contains(h.HintText(), hint)) {
		t.Errorf("the error %v has the hint %v, want %q in it", err, h, hint)
	}
}

func TestMain(m *testing.M) {
	// The user's own files must not decide.
	os.Setenv("DOCKER_CONFIG", "/nonexistent")
	os.Exit(m.Run())
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
