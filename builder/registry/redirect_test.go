package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/redirect/dnstest"
)

// TestLinkLocal: a registry leads to no address where clouds have credentials,
// by its realm or by a redirect, and whatever the address looks like.
func TestLinkLocal(t *testing.T) {
	dnstest.Use(t, dnstest.Resolver(t, [4]byte{169, 254, 169, 254}))
	for _, host := range []string{"169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[fe80::1]", "innocent.example"} {
		for _, by := range []string{"realm", "redirect"} {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if by == "redirect" && r.URL.Path != "/v2/" {
					http.Redirect(w, r, "http://"+host+"/blob", http.StatusTemporaryRedirect)
					return
				}
				if by == "realm" {
					w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+host+`/token",service="x"`)
					w.WriteHeader(http.StatusUnauthorized)
				}
			}))
			_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, s.Listener.Addr().String()+"/app:1"))
			if err == nil || !strings.Contains(err.Error(), "link-local address") {
				t.Errorf("%s by %s: got %v", host, by, err)
			}
			s.Close()
		}
	}
}

// TestBlobRedirect: where a blob is stored, the credentials of the registry are
// not known, nor where the request came from.
func TestBlobRedirect(t *testing.T) {
	data := []byte("blob")
	var mu sync.Mutex
	var got []http.Header
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got = append(got, r.Header.Clone())
		mu.Unlock()
		_, _ = w.Write(data)
	}))
	defer storage.Close()
	for _, login := range []string{`Basic realm="x"`, `Bearer realm="http://HOST/token"`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token":
				_, _ = w.Write([]byte(`{"token":"t"}`))
			case r.Header.Get("Authorization") == "":
				w.Header().Set("WWW-Authenticate", strings.ReplaceAll(login, "HOST", r.Host))
				w.WriteHeader(http.StatusUnauthorized)
			case strings.Contains(r.URL.Path, "/blobs/"):
				http.Redirect(w, r, storage.URL+"/blob", http.StatusTemporaryRedirect)
			}
		}))
		c := quick(Config{Keychain: keychain{&authn.Basic{Username: "u", Password: "p"}}})
		desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
		r, err := c.Blob(t.Context(), s.Listener.Addr().String()+"/app", desc)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		s.Close()
	}
	if len(got) != 2 {
		t.Fatalf("the storage was asked %d times", len(got))
	}
	for _, h := range got {
		if h.Get("Authorization") != "" || h.Get("Referer") != "" {
			t.Errorf("the storage was sent %v", h)
		}
	}
}

// TestPlainCredentials: what a registry that speaks TLS was trusted with is sent
// nowhere without TLS.
func TestPlainCredentials(t *testing.T) {
	asked := false
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer s.Close()
	rt, err := quick(Config{}).transport(endpoint{host: "registry.example", schemes: onlyTLS})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer t")
	if resp, err := rt.RoundTrip(req); err == nil || asked {
		resp.Body.Close()
		t.Error("credentials were sent in plain")
	}
}
