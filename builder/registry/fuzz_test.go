package registry

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/transfer"
)

// rawRegistry answers with these bytes: requests without authorization if it wants
// some, the place of tokens, and all else.
type rawRegistry struct{ refusal, token, rest []byte }

func (r rawRegistry) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := r.rest
	switch {
	case req.Header.Get("Authorization") == "" && bytes.HasPrefix(r.refusal, []byte("HTTP/1.1 401 ")) && strings.HasPrefix(req.URL.Path, "/v2/"):
		answer = r.refusal
	case !strings.HasPrefix(req.URL.Path, "/v2/"):
		answer = r.token
	}
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), req)
}

// FuzzAnswers: whatever a registry says when it is asked who may read, for a
// token, for a manifest and for a blob: an error, or what has the digest.
func FuzzAnswers(f *testing.F) {
	const ok = "HTTP/1.1 200 OK\r\n\r\n"
	answer := "HTTP/1.1 200 OK\r\nContent-Type: " + ocispec.MediaTypeImageManifest + "\r\nContent-Length: 2\r\nDocker-Content-Digest: sha256:x\r\n\r\n{}"
	for _, s := range [][3]string{
		{ok, ok, answer},
		{"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"http://tokens.invalid/t\",service=\"s\",scope=\"repository:a:pull\"\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n{\"token\":\"x\",\"expires_in\":-1}", answer},
		{"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Bearer realm=\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n{\"errors\":[{\"code\":1}]}", "HTTP/1.1 404 No\r\n\r\n{\"errors\":[{\"code\":\"NAME_UNKNOWN\",\"detail\":[[[]]]}]}"},
		{"HTTP/1.1 401 No\r\nWWW-Authenticate: bearer realm=\"file:///etc/passwd\",x=\"\\\r\n\r\n", "", "HTTP/1.1 206 Part\r\nContent-Range: bytes 0-99999999999999999999/2\r\n\r\n{}"},
		{ok, ok, "HTTP/1.1 429 Slow\r\nRetry-After: 9999999999\r\n\r\n"},
		{ok, ok, "HTTP/1.1 307 There\r\nLocation: http://169.254.169.254/\r\n\r\n"},
		{ok, ok, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.distribution.manifest.v1+json\r\n\r\n{}"},
	} {
		f.Add([]byte(s[0]), []byte(s[1]), []byte(s[2]))
	}
	ref, err := ParseRef("registry.invalid/a/b:c")
	if err != nil {
		f.Fatal(err)
	}
	blob := ocispec.Descriptor{Digest: digest.FromString("{}"), Size: 2}
	f.Fuzz(func(t *testing.T, refusal, token, rest []byte) {
		c := New(Config{Keychain: authn.NewMultiKeychain()})
		c.retry = retryPolicy{attempts: 2, Backoff: transfer.Backoff{First: time.Microsecond, Wait: transfer.Wait}, stall: time.Second}
		e := c.upstream(ref.Host, ref.Path)
		c.transports[transportKey{host: e.host, schemes: e.schemes}] = &retrying{inner: rawRegistry{refusal, token, rest}, policy: &c.retry, warn: func(string) {}}
		desc, data, err := c.Resolve(t.Context(), ref)
		if err == nil && (desc.Digest != digest.FromBytes(data) || desc.Size != int64(len(data)) || len(data) > manifest.MaxBytes) {
			t.Errorf("%+v for %d bytes", desc, len(data))
		}
		if desc, err := c.Head(t.Context(), ref); err == nil && desc.Digest.Validate() != nil {
			t.Errorf("digest %q", desc.Digest)
		}
		if data, err := c.ReadBlob(t.Context(), ref.Repository(), blob); err == nil && string(data) != "{}" {
			t.Errorf("blob %q", data)
		}
		r, err := c.Blob(t.Context(), ref.Repository(), blob)
		if err != nil {
			return
		}
		// Who reads it verifies; here it only has to end.
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzCredentials: a credentials file is refused, or can be asked.
func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"h.example/a":{"identitytoken":"x"}}}`), "h.example/a/b")
	f.Add([]byte(`{"auths":{"h.example":{"auth":"no base64"}}}`), "h.example/a")
	f.Add([]byte(`{"auths":{"h.example":{"auth":"dTo="},"h.example/":{"auth":":"}}}`), "h.example/a")
	f.Fuzz(func(t *testing.T, data []byte, repository string) {
		if bytes.Contains(bytes.ToLower(data), []byte("cred")) {
			t.Skip("it would start programs")
		}
		target, err := name.NewRepository(repository)
		if err != nil {
			return
		}
		file, err := config.LoadFromReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		if _, err := (storedCredentials{}).lookUp(t.Context(), file, target); err != nil {
			t.Error(err)
		}
	})
}

// FuzzHeaders: no registry makes us wait for a negative time, and a part of a
// blob is taken only where it belongs.
func FuzzHeaders(f *testing.F) {
	f.Add("3", "bytes 5-9/10", int64(10), int64(5))
	f.Add("-1", "bytes 5-9/*", int64(10), int64(5))
	f.Add("99999999999999999999", "bytes 0-9223372036854775807/9223372036854775807", int64(10), int64(0))
	f.Add("Mon, 02 Jan 2006 15:04:05 GMT", "bytes 5-4/10", int64(10), int64(11))
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "bytes -5--1/10", int64(10), int64(-5))
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, after, part string, total, offset int64) {
		if d := transfer.RetryAfter(after, now); d < 0 {
			t.Errorf("%q: %s", after, d)
		}
		resp := &http.Response{
			StatusCode: http.StatusPartialContent, ContentLength: total - offset, Body: http.NoBody,
			Header: http.Header{"Content-Range": {part}},
		}
		if accept(resp, total, offset) == nil && !strings.HasPrefix(part, "bytes ") {
			t.Errorf("%q was taken", part)
		}
	})
}

// FuzzHelperAnswer: whatever a credential helper prints.
func FuzzHelperAnswer(f *testing.F) {
	f.Add([]byte(`{"ServerURL": "x", "Username": "<token>", "Secret": "s"}`))
	f.Add([]byte("credentials not found in native keychain\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := parseHelperAnswer(data)
		if err != nil && found != (types.AuthConfig{}) {
			t.Errorf("got %+v and %v", found, err)
		}
		if found.IdentityToken != "" && found.Password != "" {
			t.Errorf("both a token and a password: %+v", found)
		}
	})
}
