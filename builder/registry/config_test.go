package registry

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SINTER_CERTS", dir)
	system := write(t, filepath.Join(dir, "system.json"),
		`{"mirrors": {"docker.io": ["a.example"], "quay.io": ["a.example/quay"]}, "insecure": ["lan:5000"], "maxParallelism": 2}`)
	user := write(t, filepath.Join(dir, "user.json"),
		`{"mirrors": {"index.docker.io": ["http://b.example:80/hub"]}, "caFiles": ["/ca.pem"], "insecure": ["dev"], "maxParallelism": 3}`)
	broken := write(t, filepath.Join(dir, "broken.json"), `{"mirrors": {"docker.io": ["c.example"]}, "insecure": ["x"], "caFile": []}`)
	c, faults := LoadConfig(system, filepath.Join(dir, "none.json"), broken, user)
	if len(faults) != 1 || !strings.Contains(faults[0].Error(), broken) {
		t.Fatal(faults)
	}
	want := map[string][]string{"docker.io": {"http://b.example:80/hub", "a.example"}, "quay.io": {"a.example/quay"}}
	if !reflect.DeepEqual(c.Mirrors, want) {
		t.Errorf("mirrors %v, want %v", c.Mirrors, want)
	}
	if !slices.Equal(c.Insecure, []string{"lan:5000", "dev"}) || !slices.Equal(c.CAFiles, []string{"/ca.pem"}) || !slices.Contains(c.CertDirs, dir) {
		t.Errorf("got %+v", c)
	}
	if c.MaxParallelism != 3 {
		t.Errorf("maxParallelism %d", c.MaxParallelism)
	}
	if err := c.AddMirrors([]string{"docker.io=127.0.0.1:1", "docker.io=c.example/x"}); err != nil {
		t.Fatal(err)
	}
	if got := c.Mirrors["docker.io"]; !slices.Equal(got, []string{"127.0.0.1:1", "c.example/x", "http://b.example:80/hub", "a.example"}) {
		t.Errorf("mirrors %v", got)
	}
}

func TestConfigErrors(t *testing.T) {
	dir := t.TempDir()
	for i, tt := range []struct{ text, want string }{
		{`{"mirror": {}}`, `unknown field "mirror"`},
		{`{"mirrors": []}`, "cannot unmarshal"},
		{`{"maxParallelism": -1}`, "must not be negative"},
		{`{} {}`, "more than one value"},
		{`{"mirrors": {"docker.io": ["http://"]}}`, "it has no host"},
		{`nothing`, "invalid character"},
	} {
		path := write(t, filepath.Join(dir, fmt.Sprint(i)), tt.text)
		_, faults := LoadConfig(path)
		err := errors.Join(faults...)
		wantError(t, err, tt.want, `"mirrors", "insecure"`)
		wantError(t, err, path, "")
	}
	for _, flag := range []string{"docker.io", "=a", "docker.io=", "docker.io=https:///x"} {
		wantError(t, (&Config{}).AddMirrors([]string{flag}), "registry mirror", "HOST=MIRROR")
	}
}

func FuzzConfigFile(f *testing.F) {
	f.Add([]byte(`{"mirrors": {"docker.io": ["http://a.example:5000/x"]}, "insecure": ["a"], "caFiles": ["b"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeFile(data)
		if err != nil {
			return
		}
		// What is accepted can be used.
		if _, err := New(Config{Mirrors: c.Mirrors, Insecure: c.Insecure}).endpoints("docker.io", "library/a"); err != nil {
			t.Error(err)
		}
	})
}

func TestEndpoints(t *testing.T) {
	c := New(Config{
		Mirrors: map[string][]string{"docker.io": {
			"127.0.0.1:5001", "https://127.0.0.1:5002", "http://m.example:80/hub/", "https://n.example", "lan.example/p/q",
		}},
		Insecure: []string{"lan.example", "up.example:5000"},
	})
	got, err := c.endpoints("docker.io", "library/busybox")
	want := []endpoint{
		{"127.0.0.1:5001", "library/busybox", true, tlsOrPlain},
		{"127.0.0.1:5002", "library/busybox", true, onlyTLS},
		{"m.example:80", "hub/library/busybox", true, onlyPlain},
		{"n.example", "library/busybox", true, onlyTLS},
		{"lan.example", "p/q/library/busybox", true, anyScheme},
		{"docker.io", "library/busybox", false, onlyTLS},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for host, want := range map[string]schemes{
		"up.example:5000": anyScheme, "up.example": onlyTLS, "lan.example:99": anyScheme, "10.1.1.1:5000": onlyTLS,
	} {
		if got := c.upstream(host, "a").schemes; got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
}

func TestMirrors(t *testing.T) {
	mirror, upstream := newTestRegistry(t), newTestRegistry(t)
	img := imageSource(t, randomImage(t, 500, 1))
	if err := quick(Config{}).Push(t.Context(), mirror.host+"/hub/library/busybox:latest", img, nil); err != nil {
		t.Fatal(err)
	}
	mirror.intercept(nil)
	c := quick(Config{Mirrors: map[string][]string{"docker.io": {mirror.host + "/hub"}, upstream.host: {"127.0.0.1:1", mirror.host}}})
	desc, _, err := c.Resolve(t.Context(), mustRef(t, "busybox"))
	if err != nil || desc.Digest != img.root.Digest {
		t.Errorf("by the mirror of docker.io: %v, %v", desc, err)
	}

	// The first mirror is down, the second does not have it.
	other := imageSource(t, randomImage(t, 500, 1))
	if err := quick(Config{}).Push(t.Context(), upstream.host+"/app:1", other, nil); err != nil {
		t.Fatal(err)
	}
	desc, _, err = c.Resolve(t.Context(), mustRef(t, upstream.host+"/app:1"))
	if err != nil || desc.Digest != other.root.Digest {
		t.Errorf("by the registry itself: %v, %v", desc, err)
	}
	if mirror.count("GET /v2/app/manifests/1") != 1 {
		t.Error("the second mirror was not asked")
	}

	_, _, err = c.Resolve(t.Context(), mustRef(t, upstream.host+"/none:1"))
	wantError(t, err, "mirror "+mirror.host+": ", "check the name")
	wantError(t, err, upstream.host+"/none:1: not found", "check the name")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("%v is not ErrNotFound", err)
	}
}

// A mirror that cannot be talked to is given up for the rest of the build.
func TestDeadMirrorIsAskedOnce(t *testing.T) {
	mirror, upstream := newTestRegistry(t), newTestRegistry(t)
	mirror.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	img := imageSource(t, randomImage(t, 100, 3))
	var warned []string
	c := quick(Config{
		Mirrors: map[string][]string{upstream.host: {mirror.host}},
		Warn:    func(s string) { warned = append(warned, s) },
	})
	if err := c.Push(t.Context(), upstream.host+"/a:1", img, nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, _, err := c.Resolve(t.Context(), mustRef(t, upstream.host+"/a:1")); err != nil {
			t.Fatal(err)
		}
	}
	if n := mirror.count(""); n != c.retry.attempts {
		t.Errorf("the mirror was asked %d times", n)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], mirror.host) {
		t.Errorf("warned %q", warned)
	}
}

func TestPushGoesToNoMirror(t *testing.T) {
	mirror, upstream := newTestRegistry(t), newTestRegistry(t)
	c := quick(Config{Mirrors: map[string][]string{upstream.host: {mirror.host}}})
	if err := c.Push(t.Context(), upstream.host+"/a:1", imageSource(t, randomImage(t, 100, 1)), nil); err != nil {
		t.Fatal(err)
	}
	checkImage(t, upstream.host+"/a:1")
	if len(mirror.requests) != 0 {
		t.Errorf("the mirror got %v", mirror.requests)
	}
}
