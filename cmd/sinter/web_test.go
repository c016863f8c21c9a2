package main

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// serveWeb serves the folder web of a script: files as they are, repositories
// below /git/. What is below /private/ wants the token "hunter2".
func serveWeb(env *testscript.Env) error {
	root := filepath.Join(env.WorkDir, "web")
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(root)))
	private := http.NewServeMux()
	private.Handle("/private/", http.FileServer(http.Dir(root)))
	if git, err := exec.LookPath("git"); err == nil {
		backend := func(prefix string) http.Handler {
			return &cgi.Handler{
				Path: git, Args: []string{"http-backend"}, Root: prefix,
				Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(root, "git"), "GIT_HTTP_EXPORT_ALL=1", "HOME=" + env.WorkDir},
			}
		}
		mux.Handle("/git/", backend("/git"))
		private.Handle("/private/git/", backend("/private/git"))
	}
	mux.HandleFunc("/private/", func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		if password != "hunter2" && r.Header.Get("Authorization") != "Bearer hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		private.ServeHTTP(w, r)
	})
	s := httptest.NewServer(mux)
	env.Defer(s.Close)
	env.Setenv("WEB", s.URL)
	env.Setenv("WEBHOST", strings.TrimPrefix(s.URL, "http://"))
	return nil
}
