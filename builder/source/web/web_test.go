package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/redirect/dnstest"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// web is a server of one file that remembers what it was asked.
type web struct {
	*httptest.Server
	answer
	disposition string
	// fail answers the first requests with an error.
	fail     []int
	requests atomic.Int32
	bodies   atomic.Int32
	header   http.Header
	// noCompare sends the file whatever tag it is asked about.
	noCompare bool
}

type answer struct{ content, tag, modified string }

func newWeb(t *testing.T, content string) *web {
	t.Helper()
	w := &web{answer: answer{content: content}}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func (w *web) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	n := int(w.requests.Add(1))
	w.header = req.Header.Clone()
	if n <= len(w.fail) {
		rw.WriteHeader(w.fail[n-1])
		return
	}
	for name, v := range map[string]string{"ETag": w.tag, "Last-Modified": w.modified, "Content-Disposition": w.disposition} {
		if v != "" {
			rw.Header().Set(name, v)
		}
	}
	// RFC 9110, 13.1.2: the comparison ignores whether a tag is weak.
	if w.tag != "" && strings.TrimPrefix(req.Header.Get("If-None-Match"), "W/") == strings.TrimPrefix(w.tag, "W/") && !w.noCompare {
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	w.bodies.Add(1)
	io.WriteString(rw, w.content)
}

func fetcher(t *testing.T, root string, secrets map[string]string) *Fetcher {
	t.Helper()
	f := New(remote.Config{Root: root, Secrets: func(id string) ([]byte, error) {
		if v, ok := secrets[id]; ok {
			return []byte(v), nil
		}
		return nil, fs.ErrNotExist
	}})
	f.backoff.First = time.Millisecond
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// readOnly returns the one file of a tree with its content.
func readOnly(t *testing.T, f source.FS) (layers.Entry, string) {
	t.Helper()
	entries, err := f.ReadDir("")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Fatalf("the tree has %d entries, not 1", len(entries))
	}
	return entries[0], content(t, f, entries[0])
}

func content(t *testing.T, f source.FS, e layers.Entry) string {
	t.Helper()
	r, err := f.Open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want, err := f.Digest(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(data); got != want {
		t.Fatalf("%s: digest %s, content has %s", e.Path, want, got)
	}
	return string(data)
}

func TestHTTPFile(t *testing.T) {
	w := newWeb(t, "hello")
	w.modified = "Mon, 02 Jan 2006 15:04:05 GMT"
	perm, uid, gid := uint32(0o4755), 7, 8
	tests := []struct {
		name        string
		path        string
		disposition string
		op          parser.HTTP
		want        layers.Entry
	}{
		{"address", "/dir/file.txt?x=1", "", parser.HTTP{}, layers.Entry{Path: "file.txt", Mode: 0o600}},
		{"asked for", "/dir/file.txt", `attachment; filename="no"`, parser.HTTP{Filename: "yes"}, layers.Entry{Path: "yes", Mode: 0o600}},
		{"server's", "/dir/file.txt", `attachment; filename="a/b.tgz"`, parser.HTTP{}, layers.Entry{Path: "b.tgz", Mode: 0o600}},
		{"server's climbs", "/dir/file.txt", `attachment; filename=".."`, parser.HTTP{}, layers.Entry{Path: "download", Mode: 0o600}},
		{"server's is wrong", "/dir/file.txt", `attachment; filename=`, parser.HTTP{}, layers.Entry{Path: "file.txt", Mode: 0o600}},
		{"none", "/", "", parser.HTTP{}, layers.Entry{Path: "download", Mode: 0o600}},
		{"owner and mode", "/f", "", parser.HTTP{Perm: &perm, UID: &uid, GID: &gid}, layers.Entry{Path: "f", Mode: 0o4755, UID: 7, GID: 8}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.disposition = tt.disposition
			tt.op.URL = w.URL + tt.path
			f, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), tt.op)
			if err != nil {
				t.Fatal(err)
			}
			e, data := readOnly(t, f)
			if data != "hello" || e.Size != 5 || e.ModTime != time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC).UnixNano() {
				t.Errorf("got %+v with %q", e, data)
			}
			if e.Path != tt.want.Path || e.Mode != tt.want.Mode || e.UID != tt.want.UID || e.GID != tt.want.GID {
				t.Errorf("got %+v, want %+v", e, tt.want)
			}
			if got, err := f.Resolve("/"+e.Path, true); got != e.Path || err != nil {
				t.Errorf("Resolve: %q, %v", got, err)
			}
		})
	}
}

func TestHTTPNoTime(t *testing.T) {
	w := newWeb(t, "x")
	f, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: w.URL + "/f"})
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := readOnly(t, f); e.ModTime != 0 {
		t.Errorf("time %d, want 0", e.ModTime)
	}
}

// TestHTTPAgain builds twice, and counts what the server was asked and what it
// sent.
func TestHTTPAgain(t *testing.T) {
	old := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	fresh := time.Now().UTC().Format(http.TimeFormat)
	tests := []struct {
		name             string
		before, after    answer // the server's state in the two builds
		requests, bodies int32
	}{
		{"tag", answer{content: "a", tag: `"1"`}, answer{content: "a", tag: `"1"`}, 2, 1},
		{"weak tag", answer{content: "a", tag: `W/"1"`}, answer{content: "b", tag: `W/"1"`}, 2, 2},
		{"weak tag and time", answer{content: "a", tag: `W/"1"`, modified: old}, answer{content: "b", tag: `W/"1"`, modified: old}, 2, 2},
		{"tag becomes weak", answer{content: "a", tag: `"1"`}, answer{content: "b", tag: `W/"1"`}, 3, 2},
		{"another tag", answer{content: "a", tag: `"1"`}, answer{content: "b", tag: `"2"`}, 2, 2},
		{"no tag", answer{content: "a"}, answer{content: "b"}, 2, 2},
		{"tag lost", answer{content: "a", tag: `"1"`, modified: old}, answer{content: "b", modified: old}, 2, 2},
		{"new time", answer{content: "a", modified: old}, answer{content: "b", modified: fresh}, 2, 2},
		{"same time and length", answer{content: "a", modified: old}, answer{content: "b", modified: old}, 2, 2},
		{"time too new to tell", answer{content: "a", modified: fresh}, answer{content: "b", modified: fresh}, 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, root := newWeb(t, ""), t.TempDir()
			for _, state := range []answer{tt.before, tt.after} {
				w.answer = state
				r := fetcher(t, root, nil)
				for range 2 { // the second time it is known
					f, err := r.Files(t.Context(), parser.HTTP{URL: w.URL + "/f"})
					if err != nil {
						t.Fatal(err)
					}
					if _, data := readOnly(t, f); data != state.content {
						t.Errorf("got %q, want %q", data, state.content)
					}
				}
			}
			if got := w.requests.Load(); got != tt.requests {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
			if got := w.bodies.Load(); got != tt.bodies {
				t.Errorf("%d bodies, want %d", got, tt.bodies)
			}
		})
	}
}

// TestHTTPSame: a server that sends the file again although it is the same one is
// recognized by a strong tag. To show whether the body is read, it differs. Nothing
// else that an answer says tells that the file is the same.
func TestHTTPSame(t *testing.T) {
	for tag, want := range map[string]string{`"1"`: "before", `W/"1"`: "behind", "": "behind"} {
		t.Run(tag, func(t *testing.T) {
			w, root := newWeb(t, "before"), t.TempDir()
			w.tag, w.noCompare = tag, true
			w.modified = time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
			got := ""
			for range 2 {
				f, err := fetcher(t, root, nil).Files(t.Context(), parser.HTTP{URL: w.URL + "/f"})
				if err != nil {
					t.Fatal(err)
				}
				_, got = readOnly(t, f)
				w.content = "behind" // of the same length
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestHTTPChecksum(t *testing.T) {
	w, root := newWeb(t, "hello"), t.TempDir()
	good := digest.FromString("hello")
	good512 := digest.SHA512.FromString("hello")
	for _, sum := range []digest.Digest{good, good, good512, good} {
		f, err := fetcher(t, root, nil).Files(t.Context(), parser.HTTP{URL: w.URL + "/f", Checksum: sum})
		if err != nil {
			t.Fatal(err)
		}
		if _, data := readOnly(t, f); data != "hello" {
			t.Errorf("got %q", data)
		}
	}
	if got := w.requests.Load(); got != 1 {
		t.Errorf("%d requests, want 1: the body was there", got)
	}
	r := fetcher(t, root, nil)
	bad := digest.FromString("other")
	_, err := r.Files(t.Context(), parser.HTTP{URL: w.URL + "/f", Checksum: bad})
	want := fmt.Sprintf("digest mismatch for %s/f: %s (expected: %s)", w.URL, good, bad)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	// In one build a file that was not looked at again is looked at when
	// another op has no checksum.
	r = fetcher(t, root, nil)
	w.content = "newer"
	for _, op := range []struct {
		sum  digest.Digest
		want string
	}{{good, "hello"}, {"", "newer"}, {digest.FromString("newer"), "newer"}} {
		f, err := r.Files(t.Context(), parser.HTTP{URL: w.URL + "/f", Checksum: op.sum})
		if err != nil {
			t.Fatal(err)
		}
		if _, data := readOnly(t, f); data != op.want {
			t.Errorf("got %q, want %q", data, op.want)
		}
	}
	if _, err := r.Files(t.Context(), parser.HTTP{URL: w.URL + "/f", Checksum: "sha256:1"}); err == nil || !strings.Contains(err.Error(), "invalid checksum") {
		t.Errorf("got %v", err)
	}
}

func TestHTTPAuthorization(t *testing.T) {
	w := newWeb(t, "x")
	tests := []struct {
		name    string
		secrets map[string]string
		op      parser.HTTP
		want    string
	}{
		{"none", nil, parser.HTTP{}, ""},
		{"token of the host", map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t\n"}, parser.HTTP{}, "Bearer t"},
		{"header of the host", map[string]string{"HTTP_AUTH_HEADER_127.0.0.1": "Basic h"}, parser.HTTP{}, "Basic h"},
		{"another host", map[string]string{"HTTP_AUTH_TOKEN_localhost": "t"}, parser.HTTP{}, ""},
		{"named", map[string]string{"s": "Basic n", "HTTP_AUTH_TOKEN_127.0.0.1": "t"}, parser.HTTP{AuthHeaderSecret: "s"}, "Basic n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.op.URL = w.URL + "/f"
			if _, err := fetcher(t, t.TempDir(), tt.secrets).Files(t.Context(), tt.op); err != nil {
				t.Fatal(err)
			}
			if got := w.header.Get("Authorization"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: w.URL, AuthHeaderSecret: "s"})
	if err == nil || !strings.Contains(hint.Of(err), "--secret id=s") {
		t.Errorf("a secret that is missing: %v, hint %q", err, hint.Of(err))
	}
	address := strings.Replace(w.URL, "://", "://name:word@", 1)
	if _, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: address}); err != nil {
		t.Fatal(err)
	}
	if got := w.header.Get("Authorization"); !strings.HasPrefix(got, "Basic ") {
		t.Errorf("credentials in the address were sent as %q", got)
	}
}

// TestHTTPRedirect: neither another host nor another port gets the header, and
// nobody is told where a redirect came from.
func TestHTTPRedirect(t *testing.T) {
	w := newWeb(t, "there")
	for _, elsewhere := range []string{strings.Replace(w.URL, "127.0.0.1", "localhost", 1), w.URL} {
		from := httptest.NewServer(http.RedirectHandler(elsewhere+"/f", http.StatusFound))
		defer from.Close()
		secrets := map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t"}
		f, err := fetcher(t, t.TempDir(), secrets).Files(t.Context(), parser.HTTP{URL: from.URL + "/name?signature=s"})
		if err != nil {
			t.Fatal(err)
		}
		if e, data := readOnly(t, f); e.Path != "name" || data != "there" {
			t.Errorf("got %s with %q", e.Path, data)
		}
		if w.header.Get("Authorization") != "" || w.header.Get("Referer") != "" {
			t.Errorf("%s was sent %v", elsewhere, w.header)
		}
	}
}

// TestHTTPLinkLocal: no server leads to addresses where clouds have
// credentials, and it is not tried again.
func TestHTTPLinkLocal(t *testing.T) {
	dnstest.Use(t, dnstest.Resolver(t, [4]byte{169, 254, 169, 254}))
	for _, target := range []string{"http://169.254.169.254/latest/meta-data", "http://innocent.example/"} {
		var asked atomic.Int32
		from := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			http.Redirect(rw, r, target, http.StatusMovedPermanently)
		}))
		defer from.Close()
		_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: from.URL})
		if err == nil || !strings.Contains(err.Error(), "link-local address 169.254.169.254") || !strings.Contains(hint.Of(err), "have it name another address") {
			t.Errorf("%s: got %v, hint %q", target, err, hint.Of(err))
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%s: asked %d times", target, n)
		}
	}
}

func TestHTTPHeaders(t *testing.T) {
	w := newWeb(t, "x")
	r := fetcher(t, t.TempDir(), nil)
	if _, err := r.Files(t.Context(), parser.HTTP{URL: w.URL, Attrs: map[string]string{"http.header.accept": "text/x"}}); err != nil {
		t.Fatal(err)
	}
	if w.header.Get("Accept") != "text/x" || w.header.Get("User-Agent") != "sinter" {
		t.Errorf("got %v", w.header)
	}
	for _, name := range []string{"http.header.cookie", "http.sig.pubkey"} {
		if _, err := r.Files(t.Context(), parser.HTTP{URL: w.URL, Attrs: map[string]string{name: "x"}}); err == nil {
			t.Errorf("%s was ignored", name)
		}
	}
}

func TestHTTPRetries(t *testing.T) {
	w := newWeb(t, "x")
	w.fail = []int{503, 429, 500}
	f, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: w.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, data := readOnly(t, f); data != "x" {
		t.Errorf("got %q", data)
	}
}

// TestHTTPRetryAfter: a server may ask for a pause in either form, but not for a long
// one.
func TestHTTPRetryAfter(t *testing.T) {
	far := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for after, want := range map[string]int32{"3600": 1, far: 1, "0": 2, "soon": 2} {
		var n atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			if n.Add(1) == 1 {
				rw.Header().Set("Retry-After", after)
				rw.WriteHeader(http.StatusTooManyRequests)
			}
		}))
		_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: s.URL})
		if got := n.Load(); got != want || (err == nil) != (want == 2) {
			t.Errorf("%s: asked %d times, want %d: %v", after, got, want, err)
		}
		s.Close()
	}
}

// TestHTTPCut: a transfer that breaks off leaves no file behind.
func TestHTTPCut(t *testing.T) {
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "10")
		io.WriteString(rw, "12345")
		if n.Add(1) == 2 {
			io.WriteString(rw, "67890")
		}
	}))
	defer s.Close()
	root := t.TempDir()
	f, err := fetcher(t, root, nil).Files(t.Context(), parser.HTTP{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, data := readOnly(t, f); data != "1234567890" {
		t.Errorf("got %q", data)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "downloads", "*", remote.TempPrefix+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := fetcher(t, root, nil).Files(t.Context(), parser.HTTP{URL: s.URL}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if got := n.Load(); got != 2+maxTries {
		t.Errorf("%d requests, want %d", got, 2+maxTries)
	}
}

func TestHTTPErrors(t *testing.T) {
	w := newWeb(t, "x")
	closed := httptest.NewServer(w)
	closed.Close()
	secure := httptest.NewTLSServer(w)
	secure.Config.ErrorLog = nil
	defer secure.Close()
	tests := []struct {
		name, url  string
		code       int
		want, hint string
	}{
		{"not found", w.URL + "/f", 404, "downloading " + w.URL + "/f: 404 Not Found", "check the address"},
		{"not allowed", w.URL + "/f", 401, "401 Unauthorized", "HTTP_AUTH_TOKEN_127.0.0.1"},
		{"gone wrong", w.URL + "/f", 502, "502 Bad Gateway", "again later"},
		{"unexpected", w.URL + "/f", 304, "304 Not Modified", ""},
		{"nobody", closed.URL, 0, "connection refused", "is up"},
		{"certificate", secure.URL, 0, "certificate", "SSL_CERT_FILE"},
		{"no host", "http:///x", 0, "not the address", "http://HOST/PATH"},
		{"scheme", "ftp://x/y", 0, "not the address", "http://HOST/PATH"},
		{"password", strings.Replace(w.URL, "://", "://name:word@", 1), 404, "downloading " + w.URL + ": 404", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.fail = nil
			if tt.code != 0 {
				w.requests.Store(0)
				w.fail = []int{tt.code, tt.code, tt.code, tt.code}
			}
			_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: tt.url})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "word") {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if !strings.Contains(hint.Of(err), tt.hint) {
				t.Errorf("hint %q, want %q", hint.Of(err), tt.hint)
			}
		})
	}
}

func TestHTTPCancelled(t *testing.T) {
	w := newWeb(t, "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fetcher(t, t.TempDir(), nil).Files(ctx, parser.HTTP{URL: w.URL}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestHTTPDamaged: what was changed in the store is noticed, and downloaded
// again by the next build.
func TestHTTPDamaged(t *testing.T) {
	w, root := newWeb(t, "hello"), t.TempDir()
	op := parser.HTTP{URL: w.URL, Checksum: digest.FromString("hello")}
	if _, err := fetcher(t, root, nil).Files(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(root, "downloads", "*", digest.FromString("hello").Encoded()))
	if len(files) != 1 {
		t.Fatalf("the body is not where it should be: %v", files)
	}
	if err := os.WriteFile(files[0], []byte("hullo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := fetcher(t, root, nil).Files(t.Context(), op)
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := f.Lookup("download")
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "changed in the store") {
		t.Errorf("got %v", err)
	}
	if f, err = fetcher(t, root, nil).Files(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	readOnly(t, f)
}

// TestHTTPEncoded: an encoding for the transfer is undone, an archive is not.
func TestHTTPEncoded(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "text")
	z.Close()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/encoded" {
			rw.Header().Set("Content-Encoding", "gzip")
		}
		rw.Write(packed.Bytes())
	}))
	defer s.Close()
	for path, want := range map[string]string{"/encoded": "text", "/archive.gz": packed.String()} {
		f, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: s.URL + path})
		if err != nil {
			t.Fatal(err)
		}
		if _, data := readOnly(t, f); data != want {
			t.Errorf("%s: got %q", path, data)
		}
	}
}

// TestHTTPProxy: it is said what the proxy wants, with a hint that keeps its words.
func TestHTTPProxy(t *testing.T) {
	proxy := newWeb(t, "")
	for _, address := range []string{"http://web.example/f", "https://web.example/f"} {
		proxy.requests.Store(0)
		proxy.fail = []int{http.StatusProxyAuthRequired}
		t.Setenv("HTTP_PROXY", proxy.URL)
		t.Setenv("HTTPS_PROXY", proxy.URL)
		_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.HTTP{URL: address})
		if err == nil || !strings.HasPrefix(err.Error(), "downloading "+address+": the proxy ") || !strings.HasSuffix(err.Error(), " wants a name and a password") {
			t.Errorf("%s: got %v", address, err)
		}
		if got := hint.Of(err); got != parser.Redact(got) || !strings.Contains(got, "NAME:PASSWORD@") {
			t.Errorf("%s: hint %q", address, got)
		}
		if n := proxy.requests.Load(); n != 1 {
			t.Errorf("%s: asked %d times", address, n)
		}
	}
}

// TestCertificateHints: a certificate that has expired, or is for another name, needs
// something else than an authority.
func TestCertificateHints(t *testing.T) {
	u, err := url.Parse("https://web.example/f")
	if err != nil {
		t.Fatal(err)
	}
	q := request{url: u}
	for _, tt := range []struct {
		err  error
		hint string
	}{
		{x509.UnknownAuthorityError{}, "SSL_CERT_FILE"},
		{x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, "check the clock of this machine; if it is right, whoever runs web.example"},
		{x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.NotAuthorizedToSign}, "SSL_CERT_FILE"},
		{x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"other.example"}}, Host: "web.example"}, "for other names than web.example"},
	} {
		err := q.explain(&url.Error{Op: "Get", URL: u.String(), Err: &tls.CertificateVerificationError{Err: tt.err}})
		if !strings.Contains(hint.Of(err), tt.hint) || !strings.Contains(err.Error(), tt.err.Error()) {
			t.Errorf("%v: hint %q, want %q", err, hint.Of(err), tt.hint)
		}
	}
	err = q.explain(&url.Error{Op: "Get", Err: &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}})
	if !strings.Contains(hint.Of(err), "web.example lets in only who has a certificate") {
		t.Errorf("%v: hint %q", err, hint.Of(err))
	}
}
