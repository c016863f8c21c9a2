package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// privateRegistry wants the password of user and returns its host.
func privateRegistry(t *testing.T) string {
	t.Helper()
	inner := ggcr.New(ggcr.Logger(quietLog()))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "user" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// sinter runs the program and returns what it printed.
func sinter(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestLogin(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "docker"))
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("SINTER_ROOT", filepath.Join(dir, "store"))
	host := privateRegistry(t)
	for _, c := range []struct {
		about  string
		stdin  string
		args   []string
		code   int
		prints string
	}{
		{"load", "", []string{"load", "-i", savedImage(t, dir), "-t", host + "/app"}, exitOK, "Loaded image"},
		{"push without login", "", []string{"push", "-q", host + "/app"}, exitPush, "sinter login " + host},
		{"wrong password", "wrong\n", []string{"login", "-u", "user", "--password-stdin", host}, exitFailed, "does not accept the password"},
		{"no password", "", []string{"login", "-u", "user", host}, exitUsage, "--password-stdin"},
		{"no user", "secret", []string{"login", "--password-stdin", host}, exitUsage, "needs --username"},
		{"two passwords", "secret", []string{"login", "-u", "user", "-p", "x", "--password-stdin", host}, exitUsage, "exclude"},
		{"logout before", "", []string{"logout", host}, exitOK, "Not logged in"},
		{"login", "secret\n", []string{"login", "-u", "user", "--password-stdin", host}, exitOK, "Login Succeeded"},
		{"push", "", []string{"push", "-q", host + "/app"}, exitOK, "sha256:"},
		{"pull", "", []string{"pull", "-q", host + "/app"}, exitOK, "sha256:"},
		{"logout", "", []string{"logout", host}, exitOK, "Removed"},
		{"pull after logout", "", []string{"pull", "-q", host + "/app"}, exitFailed, "sinter login"},
	} {
		code, stdout, stderr := sinter(c.stdin, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.prints) {
			t.Errorf("%s: exit code %d\n%s%s", c.about, code, stdout, stderr)
		}
		if c.about == "login" {
			info, err := os.Stat(filepath.Join(dir, "docker", "config.json"))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("docker's configuration: %v, %v", info.Mode(), err)
			}
		}
	}
}

// savedImage writes an archive with an image of two layers.
func savedImage(t *testing.T, dir string) string {
	t.Helper()
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("any:1")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "saved.tar")
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	return file
}
