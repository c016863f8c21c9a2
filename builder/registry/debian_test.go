package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// debianRegistry is Debian's docker-registry with TLS by an authority of our
// own, and a password (user:secret).
type debianRegistry struct {
	host, ca string
	log      *bytes.Buffer
}

func startDebianRegistry(t *testing.T) *debianRegistry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("Debian's docker-registry is not installed")
	}
	htpasswd, err := exec.LookPath("htpasswd")
	if err != nil {
		t.Skip("htpasswd (apache2-utils) is not installed")
	}
	dir := t.TempDir()
	users, err := exec.Command(htpasswd, "-Bbn", "-C", "5", "user", "secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "users"), string(users))
	r := &debianRegistry{host: freeAddress(t), ca: filepath.Join(dir, "ca.pem"), log: &bytes.Buffer{}}
	makeCertificates(t, dir)
	conf := write(t, filepath.Join(dir, "config.yml"), fmt.Sprintf(`version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %[1]s/data}}
http: {addr: %[2]s, tls: {certificate: %[1]s/server.pem, key: %[1]s/server.key}}
auth: {htpasswd: {realm: test, path: %[1]s/users}}
`, dir, r.host))
	cmd := exec.Command(program, "serve", conf)
	cmd.Stdout, cmd.Stderr = r.log, r.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 1200 {
		conn, err := net.Dial("tcp", r.host)
		if err == nil {
			conn.Close()
			return r
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("docker-registry does not start: %s", r.log)
	return nil
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// makeCertificates writes an authority (ca.pem) and a certificate by it for
// 127.0.0.1 (server.pem, server.key).
func makeCertificates(t *testing.T, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority for tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "registry"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), caKey)
	check(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(err)
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: caDER}, "server.pem": {Type: "CERTIFICATE", Bytes: serverDER},
		"server.key": {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		check(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
}

// remoteOptions let the judge in.
func (r *debianRegistry) remoteOptions(t *testing.T) []remote.Option {
	t.Helper()
	pool := x509.NewCertPool()
	data, err := os.ReadFile(r.ca)
	if err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatalf("%s: %v", r.ca, err)
	}
	return []remote.Option{
		remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}),
		remote.WithAuth(&authn.Basic{Username: "user", Password: "secret"}),
	}
}

func TestDebianRegistry(t *testing.T) {
	reg := startDebianRegistry(t)
	user := keychain{&authn.Basic{Username: "user", Password: "secret"}}
	c := quick(Config{CAFiles: []string{reg.ca}, Keychain: user})
	ref := reg.host + "/team/app:1"
	img := imageSource(t, randomImage(t, 400_000, 4))
	if err := c.Push(t.Context(), ref, img, nil); err != nil {
		t.Fatalf("%v\n%s", err, reg.log)
	}
	checkImage(t, ref, reg.remoteOptions(t)...)
	desc, _, err := c.Resolve(t.Context(), mustRef(t, ref))
	if err != nil || desc.Digest != img.root.Digest {
		t.Errorf("resolved %v, %v", desc, err)
	}
	for d, want := range img.blobs {
		if d != desc.Digest {
			got := readBlob(t, c, reg.host+"/team/app", ocispec.Descriptor{Digest: d, Size: int64(len(want))})
			if digest.FromBytes(got) != d {
				t.Errorf("blob %s has changed", d)
			}
		}
	}
	t.Run("mount", func(t *testing.T) { reg.testMount(t, c, img) })
	t.Run("interrupted", func(t *testing.T) { reg.testInterrupted(t, img) })
	t.Run("skopeo", func(t *testing.T) { reg.testSkopeo(t, ref) })
	t.Run("errors", func(t *testing.T) {
		_, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/team/app:none"))
		wantError(t, err, "/team/app:none: not found", "check the name")
		_, _, err = c.Resolve(t.Context(), mustRef(t, reg.host+"/none:1"))
		wantError(t, err, "/none:1: not found", "check the name")
		anonymous := quick(Config{CAFiles: []string{reg.ca}})
		_, _, err = anonymous.Resolve(t.Context(), mustRef(t, ref))
		wantError(t, err, "access denied", "sinter login "+reg.host)
		wantError(t, anonymous.Push(t.Context(), ref, img, nil), "access denied", "sinter login "+reg.host)
		wrong := quick(Config{CAFiles: []string{reg.ca}, Keychain: keychain{&authn.Basic{Username: "user", Password: "wrong"}}})
		_, _, err = wrong.Resolve(t.Context(), mustRef(t, ref))
		wantError(t, err, "does not accept the stored credentials", "sinter login "+reg.host)
		_, _, err = quick(Config{Keychain: user}).Resolve(t.Context(), mustRef(t, ref))
		wantError(t, err, "unknown authority", "--registry-ca")
	})
	t.Run("login", func(t *testing.T) {
		if err := c.Check(t.Context(), reg.host, "user", "secret"); err != nil {
			t.Error(err)
		}
		wantError(t, c.Check(t.Context(), reg.host, "user", "wrong"), "does not accept the password", "token")
	})
}

// unopened is a source whose layers must not be read.
type unopened struct {
	*source
	t *testing.T
}

func (u unopened) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if strings.Contains(string(u.blobs[desc.Digest][:1]), "{") {
		return u.source.Open(ctx, desc)
	}
	u.t.Errorf("layer %s was read though it could be mounted", desc.Digest)
	return u.source.Open(ctx, desc)
}

func (r *debianRegistry) testMount(t *testing.T, c *Client, img *source) {
	from := *img
	from.origins = []string{"docker.io/library/elsewhere", r.host + "/team/app"}
	ref := r.host + "/other/copy:1"
	if err := c.Push(t.Context(), ref, unopened{&from, t}, nil); err != nil {
		t.Fatal(err)
	}
	checkImage(t, ref, r.remoteOptions(t)...)

	// An origin that has nothing costs nothing but the sending.
	from.origins = []string{r.host + "/no/such"}
	ref = r.host + "/third/copy:1"
	if err := c.Push(t.Context(), ref, &from, nil); err != nil {
		t.Fatal(err)
	}
	checkImage(t, ref, r.remoteOptions(t)...)
}

// testInterrupted breaks off the first upload of each blob on its way.
func (r *debianRegistry) testInterrupted(t *testing.T, img *source) {
	pool := x509.NewCertPool()
	data, err := os.ReadFile(r.ca)
	if err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatalf("%s: %v", r.ca, err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "https", Host: r.host})
			p.Out.Host = p.In.Host
			p.Out.Header.Set("X-Forwarded-Proto", "http")
			p.Out.SetBasicAuth("user", "secret")
		},
		Transport:    &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	var mu sync.Mutex
	broken := map[string]bool{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if isBlobPut(req) {
			digest := req.URL.Query().Get("digest")
			mu.Lock()
			first := !broken[digest]
			broken[digest] = true
			mu.Unlock()
			if first {
				req.Body = io.NopCloser(io.MultiReader(io.LimitReader(req.Body, 100_000), iotest.ErrReader(io.ErrUnexpectedEOF)))
			}
		}
		proxy.ServeHTTP(w, req)
	}))
	defer front.Close()
	ref := front.Listener.Addr().String() + "/interrupted/app:1"
	if err := quick(Config{}).Push(t.Context(), ref, img, nil); err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	checkImage(t, ref)
}

func (r *debianRegistry) testSkopeo(t *testing.T, ref string) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	out, err := exec.Command("skopeo", "copy", "--src-cert-dir", certDir(t, r.ca), "--src-creds", "user:secret",
		"docker://"+ref, "oci:"+t.TempDir()+":copy").CombinedOutput()
	if err != nil {
		t.Errorf("skopeo: %v\n%s", err, out)
	}
}

func certDir(t *testing.T, ca string) string {
	t.Helper()
	data, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(write(t, filepath.Join(t.TempDir(), "ca.crt"), string(data)))
}
