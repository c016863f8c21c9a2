package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

// corrupting answers GET requests below a path with body, and what the registry
// tells as its digest; the first times of them with another body.
type corrupting struct {
	path  string
	body  []byte
	says  string // of GET; "" tells no digest
	heads string // of HEAD; "" tells no digest
	fails int    // status of HEAD; 0 for success
	wrong []byte
	times int
	gets  int
}

func (c *corrupting) handle(w http.ResponseWriter, r *http.Request) bool {
	if !strings.Contains(r.URL.Path, c.path) {
		return false
	}
	says := c.says
	if r.Method == http.MethodHead {
		says = c.heads
	}
	if says != "" {
		w.Header().Set(digestHeader, says)
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
	if r.Method == http.MethodHead {
		if c.fails != 0 {
			w.WriteHeader(c.fails)
		}
		return true
	}
	body := c.body
	if c.gets++; c.gets <= c.times {
		body = c.wrong
	}
	_, _ = w.Write(body)
	return true
}

// A manifest that was asked for by its tag is held against the digest that the
// registry tells. One that was damaged on its way is fetched again.
func TestDamagedManifest(t *testing.T) {
	good, bad := []byte(`{"schemaVersion":2}`), []byte(`{"schemaVersion":3}`)
	right, other := digest.FromBytes(good).String(), digest.FromBytes(bad).String()
	const always = 1 << 20
	for _, tt := range []struct {
		name, ref string
		corrupting
		gets int
		err  string
	}{
		{"by tag, once", ":1", corrupting{says: right, times: 1}, 2, ""},
		{"by tag, always", ":1", corrupting{says: right, times: always}, 5, "the manifest arrived damaged: the registry"},
		{"by digest, once", "@" + right, corrupting{says: right, times: 1}, 2, ""},
		{"by digest, always", "@" + right, corrupting{says: right, times: always}, 5, "sent another manifest: " + other},
		{"another digest with a right manifest", "@" + right, corrupting{says: other}, 1, ""},
		{"HEAD alone tells a digest, once", ":1", corrupting{heads: right, times: 1}, 2, ""},
		{"HEAD alone tells a digest, always", ":1", corrupting{heads: right, times: always}, 5, "says that it is " + right},
		{"HEAD tells another digest than GET", ":1", corrupting{says: right, heads: other}, 1, ""},
		{"nothing tells a digest", ":1", corrupting{}, 1, ""},
		{"HEAD is not known", ":1", corrupting{fails: http.StatusMethodNotAllowed}, 1, ""},
		{"HEAD is not implemented", ":1", corrupting{fails: http.StatusNotImplemented}, 1, ""},
		{"HEAD finds nothing", ":1", corrupting{fails: http.StatusNotFound}, 1, ""},
		{"HEAD fails", ":1", corrupting{fails: http.StatusInternalServerError}, 1, "fails: "},
		{"HEAD is refused", ":1", corrupting{fails: http.StatusForbidden}, 1, "access denied"},
		{"HEAD tells nonsense", ":1", corrupting{heads: "sha256:x"}, 5, `sent "sha256:x" as the digest`},
		{"no digest", ":1", corrupting{says: "sha256:x"}, 5, `sent "sha256:x" as the digest`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := newTestRegistry(t)
			answer := tt.corrupting
			answer.path, answer.body, answer.wrong = "/manifests/", good, bad
			reg.intercept(answer.handle)
			desc, data, err := quick(Config{}).Resolve(t.Context(), mustRef(t, reg.host+"/a"+tt.ref))
			if answer.gets != tt.gets {
				t.Errorf("%d requests, want %d", answer.gets, tt.gets)
			}
			if tt.err != "" {
				wantError(t, err, tt.err, "")
				return
			}
			if err != nil || !bytes.Equal(data, good) || desc.Digest != digest.FromBytes(good) {
				t.Errorf("got %s (%s), %v", data, desc.Digest, err)
			}
		})
	}
}

// A manifest that breaks off is fetched again.
func TestManifestBreaksOff(t *testing.T) {
	reg := newTestRegistry(t)
	body := `{"schemaVersion":2}`
	gets := 0
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Header().Set(digestHeader, digest.FromString(body).String())
		if gets++; gets == 1 {
			_, _ = w.Write([]byte(body[:5]))
			return true
		}
		_, _ = w.Write([]byte(body))
		return true
	})
	if _, data, err := quick(Config{}).Resolve(t.Context(), mustRef(t, reg.host+"/a:1")); err != nil || string(data) != body {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestDamagedConfig(t *testing.T) {
	good, bad := []byte(`{"os":"linux"}`), []byte(`{"os":"linuy"}`)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(good), Size: int64(len(good))}
	read := func(times int, desc ocispec.Descriptor) (*corrupting, []byte, error) {
		reg := newTestRegistry(t)
		answer := &corrupting{path: "/blobs/", body: good, wrong: bad, times: times}
		reg.intercept(answer.handle)
		data, err := quick(Config{}).ReadBlob(t.Context(), reg.host+"/a", desc)
		return answer, data, err
	}
	if answer, data, err := read(1, desc); err != nil || !bytes.Equal(data, good) || answer.gets != 2 {
		t.Errorf("damaged once: got %q, %v in %d requests", data, err, answer.gets)
	}
	answer, _, err := read(1<<20, desc)
	wantError(t, err, "arrived damaged", "try again")
	if answer.gets != 5 {
		t.Errorf("tried %d times", answer.gets)
	}
	for size, want := range map[int64]string{-1: "negative size", manifest.MaxBytes + 1: "must not have more than"} {
		wrong := desc
		wrong.Size = size
		_, _, err = read(0, wrong)
		wantError(t, err, want, "")
	}
}

// A mirror that has another blob than the registry does not hinder.
func TestMirrorOfDamagedConfig(t *testing.T) {
	mirror, reg := newTestRegistry(t), newTestRegistry(t)
	good := []byte(`{"os":"linux"}`)
	mirror.intercept((&corrupting{path: "/blobs/", body: []byte(`{"os":"linuy"}`)}).handle)
	reg.intercept((&corrupting{path: "/blobs/", body: good}).handle)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(good), Size: int64(len(good))}
	c := quick(Config{Mirrors: map[string][]string{reg.host: {mirror.host}}})
	if data, err := c.ReadBlob(t.Context(), reg.host+"/a", desc); err != nil || !bytes.Equal(data, good) {
		t.Errorf("got %q, %v", data, err)
	}
}
