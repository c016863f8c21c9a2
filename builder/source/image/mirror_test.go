package image

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// breakOff is a type of content that has the length which it should have, and ends
// before.
const breakOff = "broken"

// badly is a registry that passes on what another one says, but for what change
// makes of it.
func badly(t *testing.T, host string, change func(path string, body []byte) (contentType string, changed []byte)) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+host+r.URL.Path, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		if contentType, changed := change(r.URL.Path, body); changed != nil {
			if contentType == breakOff {
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				contentType = ""
			}
			body = changed
			if contentType != "" {
				w.Header().Set("Content-Type", contentType)
			}
		} else if d := resp.Header.Get("Docker-Content-Digest"); d != "" {
			w.Header().Set("Docker-Content-Digest", d)
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// When a mirror answers with what is not an image, or not whole, the registry itself
// is asked.
func TestWrongMirror(t *testing.T) {
	const page = "<html><title>Login</title></html>"
	at := func(part string, contentType string, make func([]byte) []byte) func(string, []byte) (string, []byte) {
		return func(path string, body []byte) (string, []byte) {
			if !strings.Contains(path, part) {
				return "", nil
			}
			return contentType, make(body)
		}
	}
	flip := func(body []byte) []byte {
		body = slices.Clone(body)
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		return body
	}
	text := func(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }
	manifest := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"` + ocispec.MediaTypeImageConfig +
		`","digest":"` + digest.FromString("none").String() + `","size":4},"layers":[]}`
	for name, change := range map[string]func(string, []byte) (string, []byte){
		"a page for everything":     at("", "text/html", text(page)),
		"a page for manifests":      at("/manifests/", "text/html", text(page)),
		"a page for blobs":          at("/blobs/", "text/html", text(page)),
		"half a manifest":           at("/manifests/", "", text(`{"schemaVersion":`)),
		"no image":                  at("/manifests/", "", text(`{"a":1}`)),
		"a manifest without config": at("/manifests/", ocispec.MediaTypeImageManifest, text(manifest)),
		"damaged blobs":             at("/blobs/", "", flip),
	} {
		t.Run(name, func(t *testing.T) {
			w := newImageWorld(t)
			d := w.push("app:1", platformImage(t, "linux/amd64"))
			root := t.TempDir()
			client := registry.New(registry.Config{
				Keychain: authn.NewMultiKeychain(), Mirrors: map[string][]string{w.host: {badly(t, w.host, change)}},
				RetryDelay: time.Millisecond, Attempts: 2,
			})
			var images *Finder
			s, err := store.Open(root, store.Options{Fetch: func(ctx context.Context, l layers.Layer) (io.ReadCloser, error) { return images.Fetch(ctx, l) }})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			images = NewFinder(s, image.Open(root, s), client)
			meta, err := images.Resolve(t.Context(), w.host+"/app:1", nil, false)
			if err != nil || meta.Digest != d {
				t.Fatalf("got %s, %v", meta.Digest, err)
			}
			chain, err := images.Chain(t.Context(), parser.Image{Ref: w.host + "/app:1"}, platforms.DefaultSpec())
			if err == nil {
				err = s.Fetch(t.Context(), chain)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A transfer that fails is not the image's fault.
func TestBrokenTransfer(t *testing.T) {
	w := newImageWorld(t)
	w.push("app:1", platformImage(t, "linux/amd64"))
	host := badly(t, w.host, func(path string, body []byte) (string, []byte) {
		if strings.Contains(path, "/blobs/") {
			return breakOff, body[:len(body)/2]
		}
		return "", nil
	})
	w.images.client = registry.New(registry.Config{Keychain: authn.NewMultiKeychain(), RetryDelay: time.Millisecond, Attempts: 2})
	_, err := w.images.Resolve(t.Context(), host+"/app:1", nil, false)
	var known *registry.Error
	if !errors.As(err, &known) || !strings.Contains(known.Hint, "look at the network") || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("got %v, %+v", err, known)
	}
}
