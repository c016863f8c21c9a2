package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// refusal is a registry that does not do what it is asked for, and what people
// read then.
type refusal struct {
	name string
	// answer is the registry's to all but its front page.
	answer func(w http.ResponseWriter, r *http.Request)
	// build and push are in the errors, hint is in the hints of both.
	build, push, hint string
}

// status answers with a status code, and with what header sets ("Name: value").
func status(code int, header string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		if name, value, ok := strings.Cut(header, ": "); ok {
			w.Header().Set(name, value)
		}
		w.WriteHeader(code)
	}
}

func refusals() []refusal {
	denied := "access denied: the repository does not exist, or needs a login"
	return []refusal{
		{"401", status(401, ""), denied, denied, "sinter login "},
		{"401 basic", status(401, `WWW-Authenticate: Basic realm="x"`), denied, denied, "sinter login "},
		{"403", status(403, ""), denied, denied, "sinter login "},
		{"404", status(404, ""), "does not exist or has no such tag", "the registry does not have it", "check the name"},
		{"429", status(429, "Retry-After: 1"), "allows no more requests", "allows no more requests", "use a mirror"},
		{"429 for a day", status(429, "Retry-After: 86400"), "allows no more requests", "allows no more requests", "use a mirror"},
		{"500", status(500, ""), "500 Internal Server Error", "500 Internal Server Error", "try again later"},
		{"418", status(418, ""), "418", "418", ""},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", "EOF", ""},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write([]byte("<html>login</html>"))
		}, `answers with a web page: "login"`, "", "leads to a registry"},
	}
}

// TestRegistryRefuses: build ends with code 1 and push with code 3; they say which registry and
// why, and what to do.
func TestRegistryRefuses(t *testing.T) {
	for _, r := range refusals() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/v2/" {
					r.answer(w, req)
				}
			}))
			s.Config.ErrorLog = quietLog()
			s.Start()
			t.Cleanup(s.Close)
			r.check(t, s.Listener.Addr().String())
		})
	}
	t.Run("unknown certificate", func(t *testing.T) {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = quietLog()
		s.StartTLS()
		t.Cleanup(s.Close)
		text := "its certificate is signed by an unknown authority"
		refusal{build: text, push: text, hint: "--registry-ca FILE"}.check(t, s.Listener.Addr().String())
	})
	t.Run("nobody there", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		refusal{build: "connection refused", push: "connection refused", hint: "is a registry running"}.check(t, l.Addr().String())
	})
}

// check builds from the registry at host and pushes to it.
func (r refusal) check(t *testing.T, host string) {
	t.Helper()
	dir := t.TempDir()
	writeAt(t, filepath.Join(dir, "from"), []byte("FROM "+host+"/team/app:1\n"))
	writeAt(t, filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY from /\n"))
	sinter := func(args ...string) (string, int) {
		c := exec.Command("/proc/self/exe", args...)
		c.Args[0] = programName
		c.Env = append(os.Environ(), "SINTER_ROOT="+filepath.Join(dir, "store"), "DOCKER_CONFIG="+dir, "HOME="+dir)
		out, err := c.CombinedOutput()
		if err != nil && c.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), c.ProcessState.ExitCode()
	}
	refused := func(want string, wantCode int, args ...string) {
		t.Helper()
		out, code := sinter(args...)
		said, way, _ := strings.Cut(out[strings.LastIndex(out, "error: ")+1:], "hint: ")
		if code != wantCode || !strings.Contains(said, want) || !strings.Contains(said, host) || !strings.Contains(way, r.hint) {
			t.Errorf("%s: code %d, want %d with error %q and hint %q\n%s", args[0], code, wantCode, want, r.hint, out)
		}
	}
	quickly := []string{"--retry=1", "--retry-delay=10ms"}
	refused(r.build, exitFailed, append(quickly, "build", "--progress=plain", "-f", filepath.Join(dir, "from"), dir)...)
	if r.push == "" {
		return
	}
	if out, code := sinter("build", "-t", host+"/team/app:1", dir); code != exitOK {
		t.Fatalf("code %d\n%s", code, out)
	}
	refused(r.push, exitPush, append(quickly, "push", host+"/team/app:1")...)
	refused(r.push, exitPush, append(quickly, "build", "--progress=plain", "--push", "-t", host+"/team/app:1", dir)...)
	if out, code := sinter("verify"); code != exitOK {
		t.Errorf("verify: code %d\n%s", code, out)
	}
}
