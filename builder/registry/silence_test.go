package registry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// short is long enough for an answer that comes, and not long for one that does
// not.
const short = 300 * time.Millisecond

// impatient is a client that waits for one kind of answer for a short time only.
func impatient(c Config, set func(p *patience)) *Client {
	client := quick(c)
	set(&client.retry.patience)
	return client
}

// silent answers no request that match wants, the first times of them. It counts
// them.
func silent(times int32, match func(r *http.Request) bool) (handle func(w http.ResponseWriter, r *http.Request) bool, asked *atomic.Int32) {
	asked = &atomic.Int32{}
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if !match(r) || asked.Add(1) > times {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}, asked
}

func method(names ...string) func(r *http.Request) bool {
	return func(r *http.Request) bool {
		for _, name := range names {
			if r.Method == name && r.URL.Path != "/v2/" {
				return true
			}
		}
		return false
	}
}

const always = 1 << 20

// An answer that never comes is waited for once more.
func TestSilenceIsRetried(t *testing.T) {
	img := imageSource(t, randomImage(t, 1000, 0))
	for name, match := range map[string]func(r *http.Request) bool{
		"HEAD": method("HEAD"), "POST": method("POST"), "blob": isBlobPut, "manifest": isManifestPut,
	} {
		t.Run("push, "+name, func(t *testing.T) {
			t.Parallel()
			reg := newTestRegistry(t)
			handle, _ := silent(1, match)
			reg.intercept(handle)
			c := impatient(Config{}, func(p *patience) { p.answer = short })
			ref := reg.host + "/a:1"
			if err := c.Push(t.Context(), ref, img, nil); err != nil {
				t.Fatal(err)
			}
			checkImage(t, ref)
		})
	}
	t.Run("pull", func(t *testing.T) {
		t.Parallel()
		reg := newTestRegistry(t)
		if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", img, nil); err != nil {
			t.Fatal(err)
		}
		handle, _ := silent(1, method("GET"))
		reg.intercept(handle)
		c := impatient(Config{}, func(p *patience) { p.answer = short })
		if _, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/a:1")); err != nil {
			t.Fatal(err)
		}
		for d, data := range img.blobs {
			handle, _ := silent(1, method("GET"))
			reg.intercept(handle)
			if d != img.root.Digest {
				readBlob(t, c, reg.host+"/a", ocispec.Descriptor{Digest: d, Size: int64(len(data))})
			}
		}
	})
}

// A registry that never answers is not asked for long, and the error says so.
func TestSilentRegistry(t *testing.T) {
	img := imageSource(t, randomImage(t, 1000, 0))
	for _, tt := range []struct {
		name  string
		match func(r *http.Request) bool
		asked int32
	}{
		{"at all", func(*http.Request) bool { return true }, 2},
		{"to questions", method("HEAD"), 3},
		{"to blobs", isBlobPut, 3},
		{"to manifests", isManifestPut, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reg := newTestRegistry(t)
			handle, asked := silent(always, tt.match)
			reg.intercept(handle)
			c := impatient(Config{}, func(p *patience) { p.first, p.answer = short, short })
			err := c.Push(t.Context(), reg.host+"/a:1", img, nil)
			wantError(t, err, "registry "+reg.host+" does not answer", "check the network")
			if n := asked.Load(); n != tt.asked {
				t.Errorf("asked %d times, want %d", n, tt.asked)
			}
		})
	}
}

// A mirror that does not answer is left, and not asked again.
func TestSilentMirror(t *testing.T) {
	img := imageSource(t, randomImage(t, 1000, 0))
	for _, tt := range []struct {
		name  string
		match func(r *http.Request) bool
	}{
		{"at all", func(*http.Request) bool { return true }},
		{"to questions", method("GET", "HEAD")},
		{"to blobs", func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mirror, reg := newTestRegistry(t), newTestRegistry(t)
			for _, host := range []string{mirror.host, reg.host} {
				if err := quick(Config{}).Push(t.Context(), host+"/a:1", img, nil); err != nil {
					t.Fatal(err)
				}
			}
			handle, asked := silent(always, tt.match)
			mirror.intercept(handle)
			var warned atomic.Int32
			c := impatient(Config{
				Mirrors: map[string][]string{reg.host: {mirror.host}},
				Warn:    func(string) { warned.Add(1) },
			}, func(p *patience) { p.firstMirror, p.mirror = short, short })
			for range 2 {
				if _, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/a:1")); err != nil {
					t.Fatal(err)
				}
				for d, data := range img.blobs {
					if d != img.root.Digest {
						readBlob(t, c, reg.host+"/a", ocispec.Descriptor{Digest: d, Size: int64(len(data))})
					}
				}
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("the mirror was asked %d times", n)
			}
			if n := warned.Load(); n != 1 {
				t.Errorf("%d warnings", n)
			}
		})
	}
}

// The user's own deadline is not the registry's silence.
func TestTimeoutsPass(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := http.Client{Transport: &http.Transport{ResponseHeaderTimeout: time.Millisecond}}
	_, err = client.Get("http://" + l.Addr().String())
	if err == nil || !passing(err) || !isSilence(err) {
		t.Errorf("%v does not count as silence, which may pass", err)
	}
	if err := fmt.Errorf("x: %w", &silentError{time.Second}); !passing(err) || !isSilence(err) {
		t.Errorf("%v does not count as silence, which may pass", err)
	}
	if passing(errors.Join(errPlainRefused)) {
		t.Error("a refusal counts as passing")
	}
}

// A body that stops in the middle is waited for as long as a blob's: that of a
// manifest, of a refusal, and of a token.
func TestStalledBody(t *testing.T) {
	for name, path := range map[string]string{"manifest": "/manifests/", "token": "/token"} {
		for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				reg := newTestRegistry(t)
				img := imageSource(t, randomImage(t, 1000, 0))
				if err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", img, nil); err != nil {
					t.Fatal(err)
				}
				login := &tokenRegistry{host: reg.host, anonymous: true, life: 60}
				var stalled atomic.Bool
				reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, path) || stalled.Swap(true) {
						return login.handle(w, r)
					}
					w.Header().Set("Content-Length", "100")
					w.WriteHeader(status)
					_, _ = io.WriteString(w, "{")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
					panic(http.ErrAbortHandler)
				})
				c := quick(Config{})
				c.retry.stall = short
				_, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/a:1"))
				switch {
				case err == nil:
				case name == "manifest" && status != http.StatusOK:
					wantError(t, err, "access denied", "check the name")
				default:
					wantError(t, err, "does not answer: the transfer stalled", "check the network")
				}
			})
		}
	}
}

// A place that takes a blob without having answered before, as a store does that the
// registry redirects to, gets the time to store it.
func TestPatienceWithStores(t *testing.T) {
	policy := newRetryPolicy(Config{})
	transport := &retrying{policy: &policy}
	r := httptest.NewRequest(http.MethodPut, "https://store.invalid/", strings.NewReader("blob"))
	r.ContentLength = 1 << 30
	if got := transport.limit(r); got < 2*time.Minute {
		t.Errorf("1 GB has to be stored within %s", got)
	}
}
