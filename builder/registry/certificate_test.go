package registry

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// askingServer is a server that asks for a client's certificate and notes in seen how
// many it was shown.
func askingServer(t *testing.T, seen *sync.Map, name string, handler http.HandlerFunc) (host string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(name, len(r.TLS.PeerCertificates))
		handler(w, r)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestClientCertificate: a client's certificate is shown to the host that it is
// configured for and to the server of its tokens, and not to another one that a
// redirect leads to.
func TestClientCertificate(t *testing.T) {
	data := []byte("blob")
	for _, both := range []bool{false, true} {
		var seen sync.Map
		storage := askingServer(t, &seen, "storage", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
		tokens := askingServer(t, &seen, "tokens", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"token":"t"}`)) })
		host := askingServer(t, &seen, "registry", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+tokens+`/token",service="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.Redirect(w, r, "https://"+storage+"/blob", http.StatusTemporaryRedirect)
		})
		dir := t.TempDir()
		makeCertificates(t, dir)
		certs := filepath.Join(dir, "certs.d")
		hosts := []string{host}
		if both {
			hosts = append(hosts, storage)
		}
		for _, h := range hosts {
			for from, to := range map[string]string{"server.pem": "client.cert", "server.key": "client.key"} {
				text, err := os.ReadFile(filepath.Join(dir, from))
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(certs, h, to), string(text))
			}
		}
		c := quick(Config{CertDirs: []string{certs}, Insecure: []string{host}})
		r, err := c.Blob(t.Context(), host+"/app", ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		want := map[string]int{"registry": 1, "tokens": 1, "storage": 0}
		if both {
			want["storage"] = 1
		}
		for name, n := range want {
			if got, _ := seen.Load(name); got != n {
				t.Errorf("certificates for %s: the %s was shown %v, want %d", strings.Join(hosts, " and "), name, got, n)
			}
		}
	}
}

// TestCertificateFolders: what a server calls a host leads to no other folder.
func TestCertificateFolders(t *testing.T) {
	dir := t.TempDir()
	makeCertificates(t, dir)
	for _, name := range []string{"certs.d/x.crt", "x.crt", "a/x.crt"} {
		write(t, filepath.Join(dir, name), "not a certificate")
	}
	c := quick(Config{CertDirs: []string{filepath.Join(dir, "certs.d")}})
	for _, host := range []string{"", ".", "..", "..:5000", "[..]:1", "../a", "[::1%/../../a]"} {
		if _, err := c.hostCertificates(host, nil); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}
