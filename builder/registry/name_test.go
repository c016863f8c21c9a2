package registry

import (
	"strings"
	"testing"
)

const zeros = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func TestParseRef(t *testing.T) {
	for _, tt := range []struct {
		in, want, repository string
	}{
		{"debian", "docker.io/library/debian:latest", "docker.io/library/debian"},
		{"docker.io/debian:12", "docker.io/library/debian:12", "docker.io/library/debian"},
		{"index.docker.io/library/debian", "docker.io/library/debian:latest", "docker.io/library/debian"},
		{"team/app", "docker.io/team/app:latest", "docker.io/team/app"},
		{"localhost/app", "localhost/app:latest", "localhost/app"},
		{"127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1", "127.0.0.1:5000/app"},
		{"[::1]:5000/app:v1", "[::1]:5000/app:v1", "[::1]:5000/app"},
		{"a.example/b/c/d@" + zeros, "a.example/b/c/d@" + zeros, "a.example/b/c/d"},
		{"a.example/b:1@" + zeros, "a.example/b:1@" + zeros, "a.example/b"},
	} {
		r, err := ParseRef(tt.in)
		if err != nil || r.String() != tt.want || r.Repository() != tt.repository {
			t.Errorf("%s: got %s in %s, %v; want %s in %s", tt.in, r, r.Repository(), err, tt.want, tt.repository)
		}
	}
}

func TestParseRefErrors(t *testing.T) {
	for in, hint := range map[string]string{
		"":                           "a name is",
		"Debian":                     "debian",
		"a b":                        "a name is",
		"a:b:c":                      "a name is",
		"a@sha256:12":                "a name is",
		"https://example.com/a":      "a name is",
		strings.Repeat("a/", 200):    "a name is",
		strings.Repeat("0", 64):      "a name is",
		"example.com/a@md5:" + "abc": "a name is",
	} {
		_, err := ParseRef(in)
		wantError(t, err, "is not an image name", hint)
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"debian", "a.example:5000/b/c:1@" + zeros, "[::1]:1/a", "A", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		again, err := ParseRef(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %v, which is read as %v, %v", s, r, again, err)
		}
	})
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.1.2.3:1": true, "[::1]:5000": true, "::1": true,
		"127.0.0.1.example.com": false, "127.example.com:5000": false,
		"a.localhost:80": true, "10.0.0.1:5000": false, "192.168.1.1": false, "localhost.example.com": false, "docker.io": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("%s: %t", host, got)
		}
	}
}

func TestCredentialKey(t *testing.T) {
	for host, want := range map[string]string{
		"docker.io": "https://index.docker.io/v1/", "": "https://index.docker.io/v1/",
		"index.docker.io": "https://index.docker.io/v1/", "a.example:5000": "a.example:5000",
	} {
		if got := CredentialKey(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}
