package registry

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
)

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	// It is told at once: a second attempt would take an hour to begin.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, _, err = New(Config{Keychain: authn.NewMultiKeychain(), RetryDelay: time.Hour}).Resolve(ctx, mustRef(t, host+"/a:1"))
	wantError(t, err, host+": connection refused", "is a registry running")
}

func TestAnswers(t *testing.T) {
	reg := newTestRegistry(t)
	stored := keychain{&authn.Basic{Username: "user", Password: "secret"}}
	for _, tt := range []struct {
		name       string
		status     int
		body       string
		keychain   authn.Keychain
		text, hint string
		missing    bool
	}{
		{"anonymous", 401, "", nil, "access denied", "sinter login " + reg.host, false},
		{"wrong password", 401, "", stored, "does not accept the stored credentials", "sinter login", false},
		{"forbidden", 403, "", stored, "access denied with the stored credentials", "another user", false},
		{"no tag", 404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"m"}]}`, nil, "/team/app:1: not found", `"1"`, true},
		{"no repository", 404, `{"errors":[{"code":"NAME_UNKNOWN","message":"m"}]}`, nil, "no such repository", "check the name", true},
		{"too many", 429, "", nil, "no more requests", "mirror", false},
		{"broken", 503, "<html>down</html>", nil, "fails", "later", false},
		{"teapot", 418, "", nil, "418", "leads to a registry", false},
		{"own words", 403, `{"errors":[{"code":"DENIED","message":"quota of team is used up"}]}`, stored, "(the registry says: DENIED: quota of team is used up)", "", false},
		{"full", 507, "", nil, "is full", "make room", false},
		{"too large", 413, "", nil, "refuses what is this large", "raise the limit", false},
		{"a page", 500, strings.Repeat("<p>\n", 1000), nil, "fails: 500 Internal Server Error (GET ", "later", false},
		{"a firewall", 403, firewall, nil, `access denied (the server says: "Blocked Your company does not allow & like this.")`, "firewall", false},
		{"a firewall for users", 403, firewall, stored, `access denied (the server says: "Blocked Your company`, "firewall", false},
		{"a proxy", 502, "<h1>Bad\n gateway</h1>", nil, `fails: 502 Bad Gateway: "Bad gateway" (GET http://` + reg.host + "/v2/team/app/manifests/1)", "later", false},
		{"a web server", 404, "<title>404</title>Nothing here", nil, `not found (the server says: "404 Nothing here")`, "leads to a registry", false},
		{"many and a page", 429, "<p>slow</p>", nil, `for now (the server says: "slow")`, "mirror", false},
		{"denied with 404", 404, `{"errors":[{"code":"DENIED","message":"not for you"}]}`, stored, "access denied with the stored credentials (the registry says: DENIED: not for you)", "another user", false},
		{"denied with 400", 400, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, nil, "needs a login (the registry says: UNAUTHORIZED: authentication required)", "sinter login", false},
		{"too many with 403", 403, `{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}`, stored, "allows no more requests for now (the registry says: TOOMANYREQUESTS: pull rate limit)", "mirror", false},
		{"no repository with 400", 400, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, nil, "no such repository", "check the name", true},
		{"detail", 400, `{"errors":[{"code":"X","message":"no","detail":"that\nis why"},{"code":"Y","message":"","detail":{"a":1}}]}`, nil, "answered: X: no; that is why; Y (GET", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				if tt.keychain != nil && r.Header.Get("Authorization") == "" {
					w.Header().Set("WWW-Authenticate", "Basic")
					w.WriteHeader(http.StatusUnauthorized)
					return true
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
				return true
			})
			_, _, err := quick(Config{Keychain: tt.keychain}).Resolve(t.Context(), mustRef(t, reg.host+"/team/app:1"))
			wantError(t, err, tt.text, tt.hint)
			if len(err.Error()) > 2*longestURL {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if errors.Is(err, ErrNotFound) != tt.missing && !strings.Contains(tt.body, "Nothing here") {
				t.Errorf("%v: ErrNotFound is %t", err, !tt.missing)
			}
		})
	}
}

const firewall = "<!DOCTYPE html><html><head><title>Blocked</title><style>p {}</style><script>if (a < b) {}</script></head>\n<body><p>Your company does not\nallow &amp; like this.</p></body></html>"

// What a registry does not take of a push is told by its code, with what to do.
func TestRefusedPush(t *testing.T) {
	reg := newTestRegistry(t)
	img := imageSource(t, randomImage(t, 100, 1))
	for _, tt := range []struct{ code, hint string }{
		{"MANIFEST_INVALID", "oci-mediatypes=false"},
		{"MANIFEST_BLOB_UNKNOWN", "push again"},
		{"NAME_INVALID", "does not allow this name"},
		{"TAG_INVALID", "choose another"},
		{"UNSUPPORTED", "read-only"},
		{"SIZE_INVALID", "push again"},
		{"ELSE", ""},
	} {
		reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"because"}]}`, tt.code)
			return true
		})
		err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", img, nil)
		wantError(t, err, tt.code+": because (PUT http", tt.hint)
		var known *Error
		if errors.As(err, &known) && strings.Contains(known.Hint, "leads to a registry") {
			t.Errorf("%s: the hint is %s", tt.code, known.Hint)
		}
	}
}

// Who may not push is told why in the registry's words.
func TestDeniedPush(t *testing.T) {
	reg := newTestRegistry(t)
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"the quota of the team is used up"}]}`))
		return true
	})
	err := quick(Config{}).Push(t.Context(), reg.host+"/a:1", imageSource(t, randomImage(t, 100, 1)), nil)
	wantError(t, err, "access denied", "sinter login")
	wantError(t, err, "(the registry says: DENIED: the quota of the team is used up)", "")
}

// The reason comes first, however long the address is that failed. Its query is
// left out.
func TestReasonComesFirst(t *testing.T) {
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/broken" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("<Error><Message>Request has expired</Message></Error>"))
			return
		}
		panic(http.ErrAbortHandler)
	}))
	defer storage.Close()
	storage.Config.ErrorLog = quietLog()
	for path, want := range map[string]string{"/broken": "EOF (GET ", "/signed": `Request has expired"`} {
		reg := newTestRegistry(t)
		reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			http.Redirect(w, r, storage.URL+path+"?X-Signature="+strings.Repeat("s", 2000), http.StatusTemporaryRedirect)
			return true
		})
		_, err := quick(Config{}).Blob(t.Context(), reg.host+"/a", ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1})
		wantError(t, err, want, "")
		if strings.Contains(err.Error(), "sss") || strings.Count(err.Error(), storage.URL) > 1 {
			t.Errorf("the address is told: %v", err)
		}
	}
}

// The address is the one that was asked, with the scheme that was spoken.
func TestReasonNamesScheme(t *testing.T) {
	reg := newTestRegistry(t)
	reg.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, reg.host+"/a:1"))
	wantError(t, err, "EOF (GET http://"+reg.host+"/v2/a/manifests/1)", "")
}

// FuzzQuoted: of whatever a server says, a short line is quoted.
func FuzzQuoted(f *testing.F) {
	for _, s := range []string{firewall, "", "plain\nwords", "<script>", "<p", "\x00<a>\xff", "\ufeff <x>y</x>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		text := quoted(body)
		if unquoted, err := strconv.Unquote(text); text != "" && (err != nil || utf8.RuneCountInString(unquoted) > longestQuote+1 || strings.Contains(text, "\n")) {
			t.Errorf("%q gives %s", body, text)
		}
	})
}

// A registry whose answer about logins is no such answer.
func TestWrongLogins(t *testing.T) {
	for _, tt := range []struct{ challenge, token, text, hint string }{
		{`Bearer realm="http://HOST/token"`, "<html>", "its answer about logins cannot be understood", "leads to a registry"},
		{`Bearer realm="http://HOST/token"`, "{}", "its answer about logins cannot be understood", "leads to a registry"},
		{`Bearer`, "", "its answer about logins cannot be understood", "leads to a registry"},
		{`Bearer realm="http://10.0.0.1/token"`, "", "it sends logins to another address", "its realm must be a host name"},
		{`Bearer realm="http://169.254.169.254/token"`, "", "it sends logins to another address", "its realm must be a host name"},
		{`Bearer realm="/token"`, "", "the address for its logins cannot be used", "correct the realm"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				_, _ = w.Write([]byte(tt.token))
				return
			}
			w.Header().Set("WWW-Authenticate", strings.ReplaceAll(tt.challenge, "HOST", r.Host))
			w.WriteHeader(http.StatusUnauthorized)
		}))
		_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, s.Listener.Addr().String()+"/app:1"))
		wantError(t, err, tt.text, tt.hint)
		s.Close()
	}
}

type keychain struct{ auth authn.Authenticator }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) { return k.auth, nil }

func TestWrongManifests(t *testing.T) {
	reg := newTestRegistry(t)
	serve := func(contentType, body string) {
		reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write([]byte(body))
			return true
		})
	}
	c := quick(Config{})
	serve(mediaTypeSchema1Signed, `{"schemaVersion":1}`)
	_, _, err := c.Resolve(t.Context(), mustRef(t, reg.host+"/a:1"))
	wantError(t, err, "schema 1", "push the image again")

	serve(manifest.DockerManifest, `{}`)
	_, _, err = c.Resolve(t.Context(), mustRef(t, reg.host+"/a@"+zeros))
	wantError(t, err, "sent another manifest", "")

	serve(manifest.DockerManifest, strings.Repeat(" ", manifest.MaxBytes+1))
	_, _, err = c.Resolve(t.Context(), mustRef(t, reg.host+"/a:1"))
	wantError(t, err, "more than", "")
}

func TestCanceled(t *testing.T) {
	reg := newTestRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	_, _, err := quick(Config{}).Resolve(ctx, mustRef(t, reg.host+"/a:1"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(ggcr.New(ggcr.Logger(quietLog())))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = quietLog()
	host := strings.TrimPrefix(s.URL, "https://")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "ca.pem"), string(ca))
	write(t, filepath.Join(dir, "certs.d", host, "ca.crt"), string(ca))
	img := imageSource(t, randomImage(t, 100, 1))

	err := quick(Config{}).Push(t.Context(), host+"/a:1", img, nil)
	wantError(t, err, "unknown authority", "/etc/docker/certs.d/"+host+"/ca.crt")
	trusting := quick(Config{}).WithInsecure(host)
	if err := trusting.Push(t.Context(), host+"/trusted:1", img, nil); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]Config{
		"file": {CAFiles: []string{file}}, "folder": {CertDirs: []string{filepath.Join(dir, "certs.d")}}, "insecure": {Insecure: []string{host}},
	} {
		t.Run(name, func(t *testing.T) {
			client := quick(c)
			if err := client.Push(t.Context(), host+"/"+name+":1", img, nil); err != nil {
				t.Fatal(err)
			}
			if _, _, err := client.Resolve(t.Context(), mustRef(t, host+"/"+name+":1")); err != nil {
				t.Error(err)
			}
		})
	}
	none := write(t, filepath.Join(dir, "none.pem"), "nothing")
	_, _, err = quick(Config{CAFiles: []string{none}}).Resolve(t.Context(), mustRef(t, host+"/a:1"))
	wantError(t, err, "no certificate in "+none, "PEM")
	_, _, err = quick(Config{CAFiles: []string{filepath.Join(dir, "absent")}}).Resolve(t.Context(), mustRef(t, host+"/a:1"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Only loopback registries and those configured may speak plain HTTP: nobody on
// the way can talk us out of TLS.
func TestPlainHTTPIsRefused(t *testing.T) {
	reg := newTestRegistry(t)
	_, port, err := net.SplitHostPort(reg.host)
	if err != nil {
		t.Fatal(err)
	}
	// A name that is not known as loopback, but leads there.
	c := quick(Config{Mirrors: map[string][]string{"docker.io": {"https://127.0.0.1:" + port}, "quay.io": {"http://127.0.0.1:" + port}}})
	e, err := c.mirror("https://127.0.0.1:"+port, "a")
	if err != nil {
		t.Fatal(err)
	}
	head := func() error {
		s, err := c.open(t.Context(), sessionKey{endpoint: e})
		if err == nil {
			_, err = s.head(t.Context(), Ref{Host: e.host, Path: e.path, Tag: "1"})
		}
		return err
	}
	wantError(t, head(), "speaks plain HTTP", "--registry-insecure")
	if e, err = c.mirror("http://127.0.0.1:"+port, "a"); err != nil {
		t.Fatal(err)
	}
	if err := head(); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// A registry with bearer tokens, as most public ones are.
func TestBearerTokens(t *testing.T) {
	reg := newTestRegistry(t)
	var expired atomic.Bool
	reg.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			if user != "user" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "good " + strings.Join(r.URL.Query()["scope"], " ")})
			return true
		}
		scope := "repository:team/app:"
		if strings.HasPrefix(r.URL.Path, "/v2/team/app/") && strings.Contains(r.Header.Get("Authorization"), scope) && !expired.Load() {
			return false
		}
		if r.URL.Path == "/v2/" && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer good") {
			return false
		}
		expired.Store(false)
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+reg.host+`/token",service="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	ref := reg.host + "/team/app:1"
	img := imageSource(t, randomImage(t, 3000, 3))
	c := quick(Config{Keychain: keychain{&authn.Basic{Username: "user", Password: "secret"}}})
	if err := c.Push(t.Context(), ref, img, nil); err != nil {
		t.Fatal(err)
	}
	expired.Store(true)
	if _, _, err := c.Resolve(t.Context(), mustRef(t, ref)); err != nil {
		t.Errorf("with an expired token: %v", err)
	}
	_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, ref))
	wantError(t, err, "access denied", "sinter login "+reg.host)
	if err := c.Check(t.Context(), reg.host, "user", "secret"); err != nil {
		t.Errorf("the right password: %v", err)
	}
	wantError(t, c.Check(t.Context(), reg.host, "user", "wrong"), "does not accept the password of user", "access token")
}

// A blob that is missing in a pull is no matter of the name.
func TestMissingBlob(t *testing.T) {
	reg := newTestRegistry(t)
	desc := ocispec.Descriptor{Digest: digest.FromString("moon"), Size: 4}
	_, err := quick(Config{}).Blob(t.Context(), reg.host+"/team/app", desc)
	wantError(t, err, "the registry does not have it", "have it pushed again")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%v is not ErrNotFound", err)
	}
}

// A digest that a registry made up is an error before it is part of an address.
func TestInvalidDigests(t *testing.T) {
	c := quick(Config{})
	for _, d := range []digest.Digest{"x", "../../other/manifests/1", "sha256:12", "md4:31d6cfe0d16ae931b73c59d7e0c089c0"} {
		ref := Ref{Host: "registry.invalid", Path: "a", Digest: d}
		if _, _, err := c.Resolve(t.Context(), ref); !isInvalidDigest(err) {
			t.Errorf("Resolve %q: %v", d, err)
		}
		if _, err := c.Head(t.Context(), ref); !isInvalidDigest(err) {
			t.Errorf("Head %q: %v", d, err)
		}
	}
}

func isInvalidDigest(err error) bool {
	return errors.Is(err, digest.ErrDigestInvalidFormat) || errors.Is(err, digest.ErrDigestInvalidLength) || errors.Is(err, digest.ErrDigestUnsupported)
}

// What the proxy does not do is not the registry's fault, and what will not pass is not
// tried again.
func TestProxyIsNamed(t *testing.T) {
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tt := range []struct {
		variable, text, hint string
		asked                int32
	}{
		{proxy.URL, "registry reg.example: the proxy " + proxy.Listener.Addr().String() + " wants a name and a password", "NAME:PASSWORD@ before the host in HTTPS_PROXY", 1},
		{closed.URL, "registry reg.example: the proxy " + closed.Listener.Addr().String() + " cannot be reached: ", "address in HTTPS_PROXY", 0},
		{"http://me:50%off@proxy:3128", "registry reg.example: the variable HTTPS_PROXY does not hold the address of a proxy", "% as %25", 0},
	} {
		asked.Store(0)
		t.Setenv("HTTPS_PROXY", tt.variable)
		_, _, err := quick(Config{}).Resolve(t.Context(), mustRef(t, "reg.example/a:1"))
		wantError(t, err, tt.text, tt.hint)
		if n := asked.Load(); n != tt.asked {
			t.Errorf("%s: the proxy was asked %d times, want %d", tt.variable, n, tt.asked)
		}
	}
}

// A registry that wants a client's certificate says so with an alert, and is not asked
// again.
func TestClientCertificateIsWanted(t *testing.T) {
	for alert, want := range map[string]bool{
		"tls: certificate required": true, "tls: bad certificate": true, "tls: unknown certificate authority": true,
		"tls: internal error": false, "tls: handshake failure": false,
	} {
		err := error(&url.Error{Op: "Get", URL: "https://reg.example/v2/", Err: &net.OpError{Op: "remote error", Err: errors.New(alert)}})
		if passing(err) == want {
			t.Errorf("%s: passing: %v", alert, !want)
		}
		s := session{endpoint: endpoint{host: "reg.example"}}
		if want {
			wantError(t, s.explain(err, nil), "registry reg.example lets in only who has a certificate of its own", "/etc/docker/certs.d/reg.example/client.cert")
			wantError(t, s.explain(err, nil), alert, "")
		}
	}
}
