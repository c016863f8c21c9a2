package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// failingRegistry is a registry that takes blobs, and manifests only when it is told
// to.
func failingRegistry(t *testing.T) (host string, works *atomic.Bool) {
	t.Helper()
	works = &atomic.Bool{}
	inner := ggcr.New(ggcr.Logger(quietLog()))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && !works.Load() {
			w.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), works
}

// TestPushAgain: the image of a push that failed is in the store, the error has a
// code of its own and no empty block, and the command that it says pushes the image.
func TestPushAgain(t *testing.T) {
	again := regexp.MustCompile(`(?m)^hint: the image is in the store; to push it again: (.*)$`)
	for _, tt := range []struct {
		name   string
		args   []string // of which HOST is the registry
		pushed []string
		kept   bool // under its name
	}{
		{"--push", []string{"build", "-t", "HOST/a:1", "--push", "."}, []string{"HOST/a:1"}, true},
		{"--push of two names", []string{"build", "-t", "HOST/a:1", "-t", "HOST/b", "--push", "."}, []string{"HOST/a:1", "HOST/b"}, true},
		{"--push without -t", []string{"build", "-o", "type=image,store=false,name=HOST/a", "--push", "."}, []string{"HOST/a"}, false},
		{"type=registry", []string{"build", "-t", "HOST/a:1", "-o", "type=registry", "."}, []string{"HOST/a:1"}, false},
		{"type=image", []string{"build", "-o", "type=image,push=true,name=HOST/a", "."}, []string{"HOST/a"}, true},
		{"by digest", []string{"build", "-o", "type=registry,push-by-digest=true,registry.insecure=true,name=HOST/a", "."}, nil, false},
		{"quiet", []string{"build", "-q", "-t", "HOST/a:1", "--push", "."}, []string{"HOST/a:1"}, true},
		{"several platforms", []string{"build", "--platform=linux/amd64,linux/arm64", "-t", "HOST/a:1", "-o", "type=registry", "."}, nil, false},
		{"push", []string{"push", "kept", "HOST/a:1"}, []string{"HOST/a:1"}, false},
		{"push with docker's configuration", []string{"--config=.", "push", "kept", "HOST/a:1"}, []string{"HOST/a:1"}, false},
		{"push of one platform", []string{"push", "--platform=linux/amd64", "kept", "HOST/a:1"}, []string{"HOST/a:1"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			host, works := failingRegistry(t)
			p := newPusher(t)
			p.must(t, "build", "-q", "--platform=linux/amd64", "-t", "kept", ".")
			for i, arg := range tt.args {
				tt.args[i] = strings.ReplaceAll(arg, "HOST", host)
			}
			out, code := p.run(t, exec.Command(programName, tt.args...))
			hint := again.FindStringSubmatch(out)
			if code != exitPush || hint == nil || strings.Contains(out, ":\n------") {
				t.Fatalf("code %d, want %d, a hint and no empty block\n%s", code, exitPush, out)
			}
			if strings.HasPrefix(tt.args[0], "--") && !strings.Contains(hint[1], "sinter --config . push") {
				t.Errorf("the hint lacks the configuration: %s", hint[1])
			}
			if listed := p.must(t, "images"); strings.Contains(listed, host) != tt.kept {
				t.Errorf("the name is kept: want %v\n%s", tt.kept, listed)
			}
			works.Store(true)
			if out, code := p.run(t, exec.Command("sh", "-c", hint[1])); code != exitOK {
				t.Fatalf("%s: code %d\n%s", hint[1], code, out)
			}
			for _, ref := range tt.pushed {
				pushedImage(t, strings.ReplaceAll(ref, "HOST", host))
			}
		})
	}
}

// pushedImage returns an image of a registry, every byte of which is what it should
// be.
func pushedImage(t *testing.T, ref string) v1.Image {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(r)
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	return img
}

// pusher runs commands in a folder with a Dockerfile and with a store of its own.
type pusher struct{ dir, bin string }

func newPusher(t *testing.T) *pusher {
	t.Helper()
	p := &pusher{dir: t.TempDir(), bin: t.TempDir()}
	writeAt(t, filepath.Join(p.dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(p.bin, programName)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pusher) run(t *testing.T, c *exec.Cmd) (out string, code int) {
	t.Helper()
	return p.begin(t, c)()
}

// begin starts a command; end waits for it.
func (p *pusher) begin(t *testing.T, c *exec.Cmd) (end func() (out string, code int)) {
	t.Helper()
	if c.Args[0] == programName {
		c.Path, c.Err = filepath.Join(p.bin, programName), nil
	}
	c.Dir = p.dir
	c.Env = append(os.Environ(), "SINTER_ROOT="+filepath.Join(p.dir, ".store"), "DOCKER_CONFIG="+p.dir, "HOME="+p.dir, "PATH="+p.bin+":"+os.Getenv("PATH"))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (string, int) {
		_ = c.Wait()
		return out.String(), c.ProcessState.ExitCode()
	}
}

func (p *pusher) must(t *testing.T, args ...string) string {
	t.Helper()
	out, code := p.run(t, exec.Command(programName, args...))
	if code != exitOK {
		t.Fatalf("%v: code %d\n%s", args, code, out)
	}
	return out
}
