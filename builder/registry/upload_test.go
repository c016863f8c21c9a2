package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pushThrough pushes an image to a registry; handle may answer in its place.
func pushThrough(t *testing.T, reg *testRegistry, img *source, handle func(w http.ResponseWriter, r *http.Request) bool) {
	t.Helper()
	reg.intercept(handle)
	ref := reg.host + "/a:1"
	if err := quick(Config{}).Push(t.Context(), ref, img, nil); err != nil {
		t.Fatal(err)
	}
	reg.intercept(nil)
	checkImage(t, ref)
}

// answerOnce answers the first request that match wants, having read its body.
func answerOnce(match func(r *http.Request) bool, answer http.HandlerFunc) func(w http.ResponseWriter, r *http.Request) bool {
	var mu sync.Mutex
	done := false
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		first := !done && match(r)
		done = done || first
		mu.Unlock()
		if first {
			_, _ = io.Copy(io.Discard, r.Body)
			answer(w, r)
		}
		return first
	}
}

func isBlobPut(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/")
}

func isManifestPut(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/")
}

func refusal(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if code != "" {
			fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, code)
		}
	}
}

// A registry that does not mount, in whatever words, gets the blob.
func TestRefusedMount(t *testing.T) {
	nothing := func(http.ResponseWriter, *http.Request) {}
	for name, answer := range map[string]http.HandlerFunc{
		"400":                    refusal(400, "UNSUPPORTED"),
		"401":                    refusal(401, ""),
		"403":                    refusal(403, "DENIED"),
		"404":                    refusal(404, "NAME_UNKNOWN"),
		"405":                    refusal(405, ""),
		"429":                    refusal(429, "TOOMANYREQUESTS"),
		"500":                    refusal(500, ""),
		"501":                    refusal(501, "UNSUPPORTED"),
		"200":                    nothing,
		"202 that leads nowhere": refusal(202, ""),
		"202 with a wrong address": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/v2/a/blobs/uploads/gone")
			w.WriteHeader(202)
		},
		"201 without the blob": refusal(201, ""),
		"broken connection":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			reg := newTestRegistry(t)
			img := imageSource(t, randomImage(t, 1000, 2))
			img.origins = []string{reg.host + "/other"}
			pushThrough(t, reg, img, func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.Method == http.MethodPost && r.URL.Query().Has("mount"):
					answer(w, r)
				case strings.HasSuffix(r.URL.Path, "/gone"):
					refusal(404, "BLOB_UPLOAD_UNKNOWN")(w, r)
				default:
					return false
				}
				return true
			})
		})
	}
}

// What a registry mixes up once is sent again.
func TestRefusedOnce(t *testing.T) {
	for name, handle := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"blob, DIGEST_INVALID":             answerOnce(isBlobPut, refusal(400, "DIGEST_INVALID")),
		"blob, SIZE_INVALID":               answerOnce(isBlobPut, refusal(400, "SIZE_INVALID")),
		"blob, BLOB_UPLOAD_UNKNOWN":        answerOnce(isBlobPut, refusal(404, "BLOB_UPLOAD_UNKNOWN")),
		"blob, 404":                        answerOnce(isBlobPut, refusal(404, "")),
		"blob, 416":                        answerOnce(isBlobPut, refusal(416, "")),
		"blob, 500":                        answerOnce(isBlobPut, refusal(500, "")),
		"manifest, DIGEST_INVALID":         answerOnce(isManifestPut, refusal(400, "DIGEST_INVALID")),
		"manifest, MANIFEST_BLOB_UNKNOWN":  answerOnce(isManifestPut, refusal(404, "MANIFEST_BLOB_UNKNOWN")),
		"manifest, 404":                    answerOnce(isManifestPut, refusal(404, "")),
		"manifest, connection that breaks": answerOnce(isManifestPut, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	} {
		t.Run(name, func(t *testing.T) {
			pushThrough(t, newTestRegistry(t), imageSource(t, randomImage(t, 1000, 1)), handle)
		})
	}
}

// A registry that does not know HEAD is sent every blob.
func TestPushWithoutHead(t *testing.T) {
	for _, status := range headless {
		pushThrough(t, newTestRegistry(t), imageSource(t, randomImage(t, 1000, 2)), func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(status)
			}
			return r.Method == http.MethodHead
		})
	}
}

// What is always refused is not tried for long, and what the registry means is not
// tried again.
func TestRefusedAlways(t *testing.T) {
	for _, tt := range []struct {
		status int
		code   string
		puts   int
	}{
		{400, "DIGEST_INVALID", 3}, {404, "", 3}, {400, "UNSUPPORTED", 1}, {403, "DENIED", 1},
	} {
		t.Run(fmt.Sprint(tt.status, tt.code), func(t *testing.T) {
			reg := newTestRegistry(t)
			img := imageSource(t, randomImage(t, 1000, 0))
			reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !isBlobPut(r) {
					return false
				}
				refusal(tt.status, tt.code)(w, r)
				return true
			})
			if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", img, nil); err == nil {
				t.Error("pushed")
			}
			if n := reg.count("PUT"); n != tt.puts {
				t.Errorf("sent %d times, want %d", n, tt.puts)
			}
		})
	}
}

// Uploads go where the registry says, with their body, and without its credentials
// when that is another server.
func TestUploadRedirects(t *testing.T) {
	for _, status := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			reg := newTestRegistry(t)
			target, err := url.Parse("http://" + reg.host)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			seen := map[bool][]string{} // by whether it is the storage
			note := func(storage bool, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				seen[storage] = append(seen[storage], r.Header.Get("Authorization"))
			}
			storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				note(true, r)
				forward(t, w, r, target)
			}))
			defer storage.Close()
			reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("X-Forwarded") != "" {
					return false
				}
				if r.Header.Get("Authorization") == "" {
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
					return true
				}
				if r.Method == http.MethodPut {
					note(false, r)
					http.Redirect(w, r, storage.URL+r.URL.String(), status)
					return true
				}
				return false
			})
			img := imageSource(t, randomImage(t, 3000, 2))
			c := quick(Config{Keychain: keychain{&authn.Basic{Username: "u", Password: "p"}}})
			ref := reg.host + "/a:1"
			if err := c.Push(t.Context(), ref, img, nil); err != nil {
				t.Fatal(err)
			}
			reg.intercept(nil)
			checkImage(t, ref)
			for storage, all := range seen {
				for _, sent := range all {
					if (sent == "") != storage {
						t.Errorf("at the storage %v: authorization %q", storage, sent)
					}
				}
			}
			if len(seen[true]) != 4 {
				t.Errorf("%d requests were redirected, want those of 3 blobs and the manifest", len(seen[true]))
			}
		})
	}
}

// forward passes a request on to another server.
func forward(t *testing.T, w http.ResponseWriter, r *http.Request, target *url.URL) {
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", target.Scheme, target.Host
	out.Header.Set("X-Forwarded", "yes")
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// A registry that redirects and hangs up without reading the body is heard: it is
// asked for leave before the body is sent.
func TestUploadRedirectBeforeBody(t *testing.T) {
	reg := newTestRegistry(t)
	pushThrough(t, reg, imageSource(t, randomImage(t, 3000, 1)), func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case !isBlobPut(r) || r.URL.Query().Has("redirected"):
			return false
		case r.Header.Get("Expect") == "":
			panic(http.ErrAbortHandler)
		}
		http.Redirect(w, r, r.URL.String()+"&redirected=1", http.StatusTemporaryRedirect)
		return true
	})
}

// interrupted takes the upload of a blob as the registries do that can resume: it
// breaks off the first body after half of it.
type interrupted struct {
	answers http.HandlerFunc // to the question what is there
	size    int

	mu   sync.Mutex
	got  bytes.Buffer
	puts []string // their Content-Range
}

func (i *interrupted) handle(w http.ResponseWriter, r *http.Request) bool {
	if !strings.Contains(r.URL.Path, "/blobs/uploads/") {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		i.answers(w, r)
		return true
	case http.MethodPut:
	default:
		return false
	}
	i.puts = append(i.puts, r.Header.Get("Content-Range"))
	if len(i.puts) == 1 {
		_, _ = io.CopyN(&i.got, r.Body, int64(i.size/2))
		panic(http.ErrAbortHandler)
	}
	if r.Header.Get("Content-Range") == "" {
		return false
	}
	_, _ = io.Copy(&i.got, r.Body)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(i.got.Bytes())), int64(i.got.Len())
	return false
}

// An interrupted upload goes on where the registry says; when it does not say, from
// the beginning.
func TestUploadResumes(t *testing.T) {
	img := imageSource(t, randomImage(t, 100, 0))
	size := 0
	for d, data := range img.blobs {
		if d != img.root.Digest {
			size = len(data)
		}
	}
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Range", text)
			w.Header().Set("Location", r.URL.String()+"?state=2")
			w.WriteHeader(http.StatusNoContent)
		}
	}
	half := fmt.Sprintf("%d-%d", size/2, size-1)
	for _, tt := range []struct {
		name    string
		answers http.HandlerFunc
		second  string
	}{
		{"half", says(fmt.Sprintf("0-%d", size/2-1)), half},
		{"half, as bytes", says(fmt.Sprintf("bytes=0-%d", size/2-1)), half},
		{"nothing", says("0-0"), ""},
		{"all", says(fmt.Sprintf("0-%d", size-1)), ""},
		{"more than all", says("0-999999"), ""},
		{"a hole", says("3-7"), ""},
		{"nonsense", says("0-x"), ""},
		{"no range", refusal(204, ""), ""},
		{"404", refusal(404, "BLOB_UPLOAD_UNKNOWN"), ""},
		{"200", refusal(200, ""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := &interrupted{answers: tt.answers, size: size}
			pushThrough(t, newTestRegistry(t), img, server.handle)
			if len(server.puts) != 2 || server.puts[1] != tt.second {
				t.Errorf("ranges sent: %q, want the second to be %q", server.puts, tt.second)
			}
		})
	}
}

// An upload whose answer alone was lost is not sent again.
func TestUploadThatArrived(t *testing.T) {
	reg := newTestRegistry(t)
	first := true
	reg.change = func(r *http.Request, _ *httptest.ResponseRecorder) {
		if isBlobPut(r) && first {
			first = false
			panic(http.ErrAbortHandler)
		}
	}
	pushThrough(t, reg, imageSource(t, randomImage(t, 1000, 0)), nil)
	if first {
		t.Error("nothing was lost")
	}
}

// A blob that cannot be read is not the registry's fault.
func TestUploadOfUnreadableBlob(t *testing.T) {
	reg := newTestRegistry(t)
	img := imageSource(t, randomImage(t, 1000, 0))
	reason := errors.New("input/output error")
	err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", unreadable{img, reason}, nil)
	if !errors.Is(err, reason) || reg.count("PUT") > 1 {
		t.Errorf("got %v after %d attempts", err, reg.count("PUT"))
	}
}

// unreadable has blobs that break off; its manifest can be read.
type unreadable struct {
	*source
	reason error
}

func (u unreadable) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := u.source.Open(ctx, desc)
	if err != nil || desc.Digest == u.root.Digest {
		return r, err
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(r, 10), iotest.ErrReader(u.reason))), nil
}

// pipes is a listener and a dialer of connections without a network, whose waits are a
// bubble's.
type pipes struct {
	conns  chan net.Conn
	closed func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn)}
	p.closed = sync.OnceFunc(func() { close(p.conns) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000} }

func (p *pipes) Close() error {
	p.closed()
	return nil
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

// A registry that stops taking a blob, without breaking the connection, is tried
// again, over HTTP/2 as over HTTP/1.1.
func TestStalledUpload(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", h2), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := ggcr.New(ggcr.Logger(quietLog()))
				var stalled atomic.Bool
				over := make(chan struct{})
				network := newPipes()
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if isBlobPut(r) && r.ContentLength > 1<<20 && !stalled.Swap(true) {
						<-over
						panic(http.ErrAbortHandler)
					}
					inner.ServeHTTP(w, r)
				}))
				s.Listener.Close()
				s.Listener, s.EnableHTTP2 = network, h2
				s.StartTLS()
				defer s.Close()
				defer close(over)
				host := strings.TrimPrefix(s.URL, "https://")
				c := New(Config{Insecure: []string{host}, Keychain: authn.NewMultiKeychain()})
				base := s.Client().Transport.(*http.Transport).Clone()
				base.DialContext = network.dial
				defer base.CloseIdleConnections()
				e := c.upstream(host, "a")
				c.transports[transportKey{e.host, e.schemes, e.mirror}] = &retrying{inner: &limited{base, e}, policy: &c.retry, warn: c.config.Warn}
				// More than is buffered on the way.
				img := imageSource(t, randomImage(t, 2<<20, 1))
				began := time.Now()
				if err := c.Push(t.Context(), host+"/a:1", img, nil); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); waited < c.retry.sendStall || !stalled.Load() {
					t.Errorf("it was pushed in %s without a stall", waited)
				}
				checkImage(t, host+"/a:1", remote.WithTransport(base))
			})
		})
	}
}

// What the retries of a single request could not do is not tried all over again.
func TestUploadCannotBegin(t *testing.T) {
	reg := newTestRegistry(t)
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			refusal(http.StatusServiceUnavailable, "UNAVAILABLE")(w, r)
		}
		return r.Method == http.MethodPost
	})
	img := imageSource(t, randomImage(t, 1000, 0))
	err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", img, nil)
	wantError(t, err, "UNAVAILABLE", "try again later")
	if n := reg.count("POST"); n != 5 {
		t.Errorf("asked %d times, want 5", n)
	}
}
