package git

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// origin is a repository with a server before it.
type origin struct {
	t    *testing.T
	dir  string // where it is worked in
	bare string
	*httptest.Server
	requests atomic.Int32
	mu       sync.Mutex
	// auth, when given, is the header that the server wants.
	auth string
	// before may answer a request, by returning true.
	before func(rw http.ResponseWriter, req *http.Request) bool
}

// The kinds of servers: one that sends any commit, one of the first version of
// the protocol, which sends what it advertised only, and one of plain files.
const (
	smart = "smart"
	old   = "old"
	dumb  = "dumb"
)

// serveGit serves bare repositories below a new directory.
func serveGit(t *testing.T, kind string) *origin {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	top := t.TempDir()
	o := &origin{t: t, dir: filepath.Join(top, "work"), bare: filepath.Join(top, "www", "repo.git")}
	var handler http.Handler = http.FileServer(http.Dir(filepath.Dir(o.bare)))
	if kind != dumb {
		path, err := exec.Command("git", "--exec-path").Output()
		if err != nil {
			t.Fatal(err)
		}
		handler = &cgi.Handler{
			Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
			Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(o.bare), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=x"},
		}
	}
	o.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		o.requests.Add(1)
		if kind == old {
			req.Header.Del("Git-Protocol")
		}
		o.mu.Lock()
		auth, before := o.auth, o.before
		o.mu.Unlock()
		if before != nil && before(rw, req) {
			return
		}
		if auth != "" && req.Header.Get("Authorization") != auth {
			rw.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(rw, req)
	}))
	t.Cleanup(o.Close)
	o.make(o.dir, o.bare)
	return o
}

func (o *origin) url() string { return o.URL + "/repo.git" }

// make makes a repository to work in, and one to be served.
func (o *origin) make(dir, bare string) {
	o.t.Helper()
	o.run(filepath.Dir(filepath.Dir(bare)), "init", "-q", "-b", "main", dir)
	o.run(dir, "init", "-q", "--bare", "-b", "main", bare)
	o.run(dir, "remote", "add", "origin", bare)
}

func (o *origin) git(args ...string) string { return o.run(o.dir, args...) }

func (o *origin) run(dir string, args ...string) string {
	o.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+o.t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@x",
		"GIT_AUTHOR_DATE=1136214245 +0000", "GIT_COMMITTER_DATE=1136214245 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// write changes files and returns the new commit, which is served.
func (o *origin) write(files map[string]string) string {
	o.t.Helper()
	for name, data := range files {
		path := filepath.Join(o.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			o.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			o.t.Fatal(err)
		}
		o.git("add", "-f", name)
	}
	o.git("commit", "-q", "--allow-empty", "-m", fmt.Sprint(files))
	o.push()
	return o.git("rev-parse", "HEAD")
}

func (o *origin) push() {
	o.t.Helper()
	o.git("push", "-q", "--force", "--prune", "origin", "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")
	o.run(o.bare, "update-server-info")
}

// eachServer runs a test with every kind of server.
func eachServer(t *testing.T, test func(t *testing.T, o *origin)) {
	for _, kind := range []string{smart, old, dumb} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, serveGit(t, kind))
		})
	}
}

func fetcher(t *testing.T, root string, secrets map[string]string) *Fetcher {
	t.Helper()
	f := New(remote.Config{Root: root, Secrets: func(id string) ([]byte, error) {
		if v, ok := secrets[id]; ok {
			return []byte(v), nil
		}
		return nil, fs.ErrNotExist
	}})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// gitFile returns what a file has in the checkout.
func gitFile(t *testing.T, r *Fetcher, op parser.Git, name string) (string, error) {
	t.Helper()
	f, err := r.Files(t.Context(), op)
	if err != nil {
		return "", err
	}
	return lookAt(t, f, name), nil
}

func lookAt(t *testing.T, f source.FS, name string) string {
	t.Helper()
	e, ok, err := f.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return "(none)"
	}
	if e.Kind == layers.Dir {
		return "directory"
	}
	return content(t, f, e)
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

func TestGitRefs(t *testing.T) {
	eachServer(t, func(t *testing.T, o *origin) {
		first := o.write(map[string]string{"f": "first"})
		o.git("tag", "light")
		o.git("tag", "-a", "-m", "x", "heavy")
		tag := o.git("rev-parse", "heavy")
		o.git("branch", "both")
		second := o.write(map[string]string{"f": "second"})
		o.git("tag", "both")
		o.git("branch", "dir/branch")
		o.git("update-ref", "refs/pull/1/head", first)
		o.git("push", "-q", "origin", "refs/pull/1/head:refs/pull/1/head")
		o.push()
		tests := []struct {
			ref, checksum, want, err string
		}{
			{"", "", "second", ""},
			{"HEAD", "", "second", ""},
			{"main", "", "second", ""},
			{"refs/heads/main", "", "second", ""},
			{"heads/main", "", "second", ""},
			{"dir/branch", "", "second", ""},
			{"branch", "", "", "does not contain ref branch"},
			{"light", "", "first", ""},
			{"refs/tags/light", "", "first", ""},
			{"heavy", "", "first", ""},
			{"tags/heavy", "", "first", ""},
			{"both", "", "first", ""}, // the branch wins
			{"refs/tags/both", "", "second", ""},
			{"refs/pull/1/head", "", "first", ""},
			{first, "", "first", ""},
			{second, "", "second", ""},
			{tag, "", "first", ""},
			{first[:7], "", "first", ""},
			{"main", second, "second", ""},
			{"main", second[:4], "second", ""},
			{"main", first, "", "expected checksum to match " + first + ", got " + second},
			{"heavy", first[:9], "first", ""},
			{"heavy", tag[:9], "first", ""},
			{"heavy", second, "", "expected checksum to match " + second + ", got " + tag + " or " + first},
			{first, first[:8], "first", ""},
			{first, second, "", "expected checksum to match " + second + ", got " + first},
			{"main", "xyz", "", "invalid checksum xyz for Git URL, expected hex commit hash"},
			{"nothing", "", "", "does not contain ref nothing"},
			{"abcdef0", "", "", "does not contain ref abcdef0"},
			{strings.Repeat("1", 40), "", "", ""},
			{"-x", "", "", "invalid git ref"},
			{"a..b", "", "", "invalid git ref"},
		}
		root := t.TempDir()
		r := fetcher(t, root, nil)
		for _, tt := range tests {
			got, err := gitFile(t, r, parser.Git{FullURL: o.url(), Ref: tt.ref, Checksum: tt.checksum}, "f")
			if tt.want == "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s@%s: got %q, %v, want %s", tt.ref, tt.checksum, got, err, tt.err)
				}
				continue
			}
			if err != nil || got != tt.want {
				t.Errorf("%s@%s: got %q, %v, want %s", tt.ref, tt.checksum, got, err, tt.want)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(root, "git", "*", remote.TempPrefix+"*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// TestGitMoves: a branch that moves is followed by the next build, not by this
// one; a commit that is known needs no server.
func TestGitMoves(t *testing.T) {
	eachServer(t, func(t *testing.T, o *origin) {
		first := o.write(map[string]string{"f": "first"})
		op, root := parser.Git{FullURL: o.url(), Ref: "main"}, t.TempDir()
		r := fetcher(t, root, nil)
		if got, err := gitFile(t, r, op, "f"); got != "first" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		// The history is written anew: the first commit is on no branch.
		o.git("checkout", "-q", "--orphan", "other")
		second := o.write(map[string]string{"f": "second"})
		o.git("branch", "-M", "other", "main")
		o.push()
		if got, err := gitFile(t, r, op, "f"); got != "first" || err != nil {
			t.Errorf("in the same build: got %q, %v", got, err)
		}
		if got, err := gitFile(t, fetcher(t, root, nil), op, "f"); got != "second" || err != nil {
			t.Errorf("in the next build: got %q, %v", got, err)
		}
		o.Close()
		before := o.requests.Load()
		for commit, want := range map[string]string{first: "first", second: "second"} {
			op.Ref = commit
			if got, err := gitFile(t, fetcher(t, root, nil), op, "f"); got != want || err != nil {
				t.Errorf("%s without a server: got %q, %v", commit, got, err)
			}
		}
		if o.requests.Load() != before {
			t.Error("the server was asked for a commit that was there")
		}
	})
}

// TestGitByCommit: the commit is taken whatever the ref is by now.
func TestGitByCommit(t *testing.T) {
	eachServer(t, func(t *testing.T, o *origin) {
		first := o.write(map[string]string{"f": "first"})
		o.write(map[string]string{"f": "second"})
		r := fetcher(t, t.TempDir(), nil)
		attrs := map[string]string{"git.fetchbycommit": "true"}
		if got, err := gitFile(t, r, parser.Git{FullURL: o.url(), Ref: "main", Checksum: first, Attrs: attrs}, "f"); got != "first" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		for sum, want := range map[string]string{"": "requires a checksum", first[:8]: "requires a full commit SHA checksum"} {
			if _, err := gitFile(t, r, parser.Git{FullURL: o.url(), Ref: "main", Checksum: sum, Attrs: attrs}, "f"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
}

func TestGitSubdir(t *testing.T) {
	o := serveGit(t, smart)
	if err := os.Symlink("a", filepath.Join(o.dir, "link")); err != nil {
		t.Fatal(err)
	}
	o.git("add", "link")
	o.write(map[string]string{"a/b/f": "deep", "file": ""})
	r := fetcher(t, t.TempDir(), nil)
	for sub, want := range map[string]string{
		"a/b": "deep", "/a/b/": "deep", "a": "(none)", "../a/b": "deep",
		"none": "lstat none: no such file", "link/b": `contains non-directory "link"`, "file": `contains non-directory "file"`,
	} {
		got, err := gitFile(t, r, parser.Git{FullURL: o.url(), Subdir: sub}, "f")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", sub, got, want)
		}
	}
}

// TestGitModes: neither the user's umask nor the repository decides.
func TestGitModes(t *testing.T) {
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	o := serveGit(t, smart)
	o.write(map[string]string{"d/f": "f", "x": "x"})
	o.git("update-index", "--chmod=+x", "x")
	o.write(nil)
	for _, keep := range []bool{false, true} {
		f, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: o.url(), KeepGitDir: keep})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]uint32{"": 0o755, "d": 0o755, "d/f": 0o644, "x": 0o755} {
			e, ok, err := f.Lookup(name)
			if err != nil || !ok || e.Mode != want || e.UID != 0 || e.GID != 0 {
				t.Errorf("%q: got %+v, %v, want %o", name, e, err, want)
			}
		}
	}
	if now := syscall.Umask(0o077); now != 0o077 {
		t.Errorf("the umask of this process became %o", now)
	}
}

func TestGitTimes(t *testing.T) {
	o := serveGit(t, smart)
	if err := os.Symlink("f", filepath.Join(o.dir, "link")); err != nil {
		t.Fatal(err)
	}
	o.git("add", "link")
	o.write(map[string]string{"d/f": "f"})
	f, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: o.url(), Attrs: map[string]string{"git.mtime": "commit"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "d", "d/f", "link"} {
		if e, ok, err := f.Lookup(name); err != nil || !ok || e.ModTime != 1136214245e9 {
			t.Errorf("%q: got %+v, %v", name, e, err)
		}
	}
}

func TestGitKeep(t *testing.T) {
	eachServer(t, func(t *testing.T, o *origin) {
		o.write(map[string]string{"f": "first"})
		second := o.write(map[string]string{"f": "second"})
		o.git("tag", "-a", "-m", "x", "v1")
		tag := o.git("rev-parse", "v1")
		o.push()
		root := t.TempDir()
		address := strings.Replace(o.url(), "://", "://name:word@", 1)
		for _, tt := range []struct{ ref, full, object string }{
			{"main", "refs/heads/main", second}, {"v1", "refs/tags/v1", tag}, {second, "HEAD", second},
		} {
			r := fetcher(t, root, nil)
			if got, err := gitFile(t, r, parser.Git{FullURL: address, Ref: tt.ref, KeepGitDir: true}, ".git"); got != "directory" || err != nil {
				t.Fatalf("%s: got %q, %v", tt.ref, got, err)
			}
			dirs, _ := filepath.Glob(filepath.Join(root, "git", "*", "checkouts", "*"))
			if len(dirs) != 1 {
				t.Fatalf("checkouts: %v", dirs)
			}
			if got := o.run(dirs[0], "rev-parse", tt.full); got != tt.object {
				t.Errorf("%s is %s, want %s", tt.full, got, tt.object)
			}
			if got := o.run(dirs[0], "rev-parse", "HEAD"); got != second {
				t.Errorf("HEAD is %s, want %s", got, second)
			}
			if got := o.run(dirs[0], "status", "--porcelain"); got != "" {
				t.Errorf("status: %s", got)
			}
			if got := o.run(dirs[0], "config", "remote.origin.url"); got != o.url() {
				t.Errorf("origin is %s, want %s", got, o.url())
			}
			if got := o.run(dirs[0], "for-each-ref", "--format=%(refname)"); tt.full != "HEAD" && got != tt.full || tt.full == "HEAD" && got != "" {
				t.Errorf("refs: %s", got)
			}
			if err := os.RemoveAll(dirs[0]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestGitKeepByName: a .git that is kept depends on how a tag was asked for, also
// when the other way came first.
func TestGitKeepByName(t *testing.T) {
	eachServer(t, func(t *testing.T, o *origin) {
		o.write(map[string]string{"f": "first"})
		o.git("tag", "v1")
		o.push()
		for _, order := range [][]string{{"v1", "refs/tags/v1"}, {"refs/tags/v1", "v1"}} {
			root := t.TempDir()
			for _, ref := range order {
				got, err := gitFile(t, fetcher(t, root, nil), parser.Git{FullURL: o.url(), Ref: ref, KeepGitDir: true}, ".git/refs/heads/v1")
				if err != nil || (got == "(none)") == (ref == "v1") {
					t.Errorf("%s in %q: the branch holds %q, %v", ref, order, got, err)
				}
			}
		}
	})
}

func TestGitSubmodules(t *testing.T) {
	eachServer(t, func(t *testing.T, o *origin) {
		sub := &origin{t: t, dir: filepath.Join(filepath.Dir(o.dir), "sub"), bare: filepath.Join(filepath.Dir(o.bare), "sub.git")}
		sub.make(sub.dir, sub.bare)
		sub.write(map[string]string{"g": "old"})
		wanted := sub.write(map[string]string{"g": "wanted"})
		sub.write(map[string]string{"g": "newer"})
		o.git("submodule", "--quiet", "add", sub.bare, "mod")
		o.run(filepath.Join(o.dir, "mod"), "checkout", "-q", wanted)
		o.git("config", "-f", ".gitmodules", "submodule.mod.url", "../sub.git")
		o.git("add", "mod", ".gitmodules")
		o.write(map[string]string{"f": "f"})
		for _, keep := range []bool{false, true} {
			r := fetcher(t, t.TempDir(), nil)
			f, err := r.Files(t.Context(), parser.Git{FullURL: o.url(), KeepGitDir: keep})
			if err != nil {
				t.Fatal(err)
			}
			if got := lookAt(t, f, "mod/g"); got != "wanted" {
				t.Errorf("mod/g is %q", got)
			}
			link := lookAt(t, f, "mod/.git")
			if link != "gitdir: ../.git/modules/mod\n" {
				t.Errorf("keep %t: mod/.git is %q", keep, link)
			}
			got, err := gitFile(t, r, parser.Git{FullURL: o.url(), KeepGitDir: keep, SkipSubmodules: true}, "mod/g")
			if got != "(none)" || err != nil {
				t.Errorf("skipped: got %q, %v", got, err)
			}
		}
	})
}

// TestGitNestedSubmodules: submodules have submodules.
func TestGitNestedSubmodules(t *testing.T) {
	o := serveGit(t, smart)
	at := func(name string) *origin {
		n := &origin{t: t, dir: filepath.Join(filepath.Dir(o.dir), name), bare: filepath.Join(filepath.Dir(o.bare), name+".git")}
		n.make(n.dir, n.bare)
		return n
	}
	inner, middle := at("inner"), at("middle")
	inner.write(map[string]string{"i": "inner"})
	middle.git("submodule", "--quiet", "add", "../inner.git", "in")
	middle.write(map[string]string{"m": "middle"})
	o.git("submodule", "--quiet", "add", "../middle.git", "dir/mod")
	o.write(map[string]string{"f": "f"})
	for _, keep := range []bool{false, true} {
		f, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: o.url(), KeepGitDir: keep})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"dir/mod/m": "middle", "dir/mod/in/i": "inner",
			"dir/mod/.git":    "gitdir: ../../.git/modules/dir/mod\n",
			"dir/mod/in/.git": "gitdir: ../../../.git/modules/dir/mod/modules/in\n",
		} {
			if got := lookAt(t, f, name); got != want {
				t.Errorf("keep %t: %s is %q, want %q", keep, name, got, want)
			}
		}
	}
}

// TestGitHostileSubmodule: repositories that made git write to other places are
// refused, whatever version git has, and however deep they are.
func TestGitHostileSubmodule(t *testing.T) {
	hostile := map[string]struct{ path, link string }{
		"control characters": {"mod\r", "mod"},
		"behind a symlink":   {"A/modules/x", "a"},
		"is a symlink":       {"Mod", "mod"},
	}
	for name, tt := range hostile {
		t.Run(name, func(t *testing.T) {
			o := serveGit(t, smart)
			commit := o.write(map[string]string{".gitmodules": "[submodule \"x\"]\n\tpath = \"" + tt.path + "\"\n\turl = " + o.url() + "\n"})
			target := filepath.Join(t.TempDir(), "target")
			if err := os.WriteFile(target, []byte(target), 0o600); err != nil {
				t.Fatal(err)
			}
			o.git("update-index", "--add", "--cacheinfo", "120000,"+o.git("hash-object", "-w", target)+","+tt.link)
			o.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+tt.path)
			o.git("commit", "-q", "-m", "hostile")
			o.push()
			outer := serveGit(t, smart)
			outer.withSubmodule(o.url())
			outer.git("update-index", "--add", "--cacheinfo", "160000,"+o.git("rev-parse", "HEAD")+",mod")
			outer.git("commit", "-q", "-m", "nested")
			outer.push()
			for _, url := range []string{o.url(), outer.url()} {
				_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: url})
				if err == nil || !strings.Contains(err.Error(), "is refused") || !strings.Contains(hint.Of(err), "submodules=false") {
					t.Errorf("got %v, hint %q", err, hint.Of(err))
				}
			}
		})
	}
}

// TestGitLocalSubmodule: a repository can neither have files of this machine nor
// run its programs.
func TestGitLocalSubmodule(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "ran")
	for _, protocol := range []string{"file", "ext", "fd"} {
		o := serveGit(t, smart)
		o.withSubmodule(map[string]string{
			"file": "file://" + o.bare, "ext": "ext::touch " + marker, "fd": "fd::0",
		}[protocol])
		_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: o.url()})
		if err == nil || !strings.Contains(err.Error(), "transport '"+protocol+"' not allowed") {
			t.Errorf("%s: got %v", protocol, err)
		}
	}
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Error("a program ran")
	}
}

func TestGitAuthorization(t *testing.T) {
	eachServer(t, func(t *testing.T, o *origin) {
		o.write(map[string]string{"f": "f"})
		basic := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
		host := strings.TrimPrefix(o.URL, "http://")
		op := parser.Git{FullURL: o.url(), AuthTokenSecret: "T", AuthHeaderSecret: "H"}
		withUser := op
		withUser.FullURL = strings.Replace(o.url(), "://", "://name:secretword@", 1)
		tests := []struct {
			name    string
			op      parser.Git
			secrets map[string]string
			want    string
			fails   bool
		}{
			{"token", op, map[string]string{"T": "tok\n"}, "basic " + basic("x-access-token:tok"), false},
			{"token of the host", op, map[string]string{"T": "no", "T." + host: "tok"}, "basic " + basic("x-access-token:tok"), false},
			{"header before token", op, map[string]string{"T": "no", "H": "Bearer h"}, "Bearer h", false},
			{"of the host before", op, map[string]string{"H": "no", "T." + host: "tok"}, "basic " + basic("x-access-token:tok"), false},
			{"in the address", withUser, nil, "Basic " + basic("name:secretword"), false},
			{"nothing", op, nil, "Bearer h", true},
			{"wrong token", op, map[string]string{"T": "secretword"}, "Bearer h", true},
			{"wrong in the address", withUser, nil, "Bearer h", true},
		}
		for _, tt := range tests {
			o.mu.Lock()
			o.auth = tt.want
			o.mu.Unlock()
			root := t.TempDir()
			got, err := gitFile(t, fetcher(t, root, tt.secrets), tt.op, "f")
			switch {
			case tt.fails && (err == nil || !strings.Contains(hint.Of(err), "GIT_AUTH_TOKEN") || strings.Contains(err.Error(), "secretword")):
				t.Errorf("%s: got %q, %v, hint %q", tt.name, got, err, hint.Of(err))
			case !tt.fails && (got != "f" || err != nil):
				t.Errorf("%s: got %q, %v", tt.name, got, err)
			}
			if out, err := exec.Command("grep", "-r", "-l", "secretword", root).Output(); err == nil {
				t.Errorf("%s: credentials are written down in %s", tt.name, out)
			}
		}
	})
}

// TestGitKilled: what a git left that was killed does not stand in the way.
func TestGitKilled(t *testing.T) {
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "first"})
	root := t.TempDir()
	op := parser.Git{FullURL: o.url()}
	if _, err := gitFile(t, fetcher(t, root, nil), op, "f"); err != nil {
		t.Fatal(err)
	}
	o.write(map[string]string{"f": "second"})
	folders, _ := filepath.Glob(filepath.Join(root, "git", "*"))
	if len(folders) != 1 {
		t.Fatalf("folders: %v", folders)
	}
	for _, name := range []string{"repo/shallow.lock", "repo/packed-refs.lock", "repo/config.lock", "repo/objects/pack/tmp_pack_x", remote.TempPrefix + "x/tree/f"} {
		path := filepath.Join(folders[0], name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := gitFile(t, fetcher(t, root, nil), op, "f"); got != "second" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, name := range []string{"repo/objects/pack/tmp_pack_x", remote.TempPrefix + "x"} {
		if _, err := os.Stat(filepath.Join(folders[0], name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func TestGitHookless(t *testing.T) {
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "f", ".gitattributes": "f filter=evil"})
	marker := filepath.Join(t.TempDir(), "ran")
	home := t.TempDir()
	config := fmt.Sprintf("[filter \"evil\"]\n\tsmudge = touch %s; cat\n[core]\n\thooksPath = %s\n\tfsmonitor = touch %[1]s\n"+
		"[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = %[3]s/\n[core]\n\tgitProxy = touch %[1]s\n[credential]\n\thelper = !touch %[1]s\n",
		marker, home, o.URL)
	for name, data := range map[string]string{".gitconfig": config, "post-checkout": "#!/bin/sh\ntouch " + marker} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", "/nonexistent")
	if got, err := gitFile(t, fetcher(t, t.TempDir(), nil), parser.Git{FullURL: o.url()}, "f"); got != "f" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Error("the user's configuration was used")
	}
}

func TestGitErrors(t *testing.T) {
	o := serveGit(t, smart)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	secure.StartTLS()
	defer secure.Close()
	tests := []struct {
		name       string
		op         parser.Git
		want, hint string
	}{
		{"no repository", parser.Git{FullURL: o.URL + "/none.git"}, "failed to fetch remote " + o.URL + "/none.git: ", "check the address"},
		{"empty", parser.Git{FullURL: o.url()}, "could not find default branch for repository", "name a branch"},
		{"nobody", parser.Git{FullURL: "http://127.0.0.1:1/x.git"}, "failed to fetch remote", "is up"},
		{"certificate", parser.Git{FullURL: secure.URL + "/x.git"}, "failed to fetch remote " + secure.URL, "GIT_SSL_CAINFO"},
		{"file", parser.Git{FullURL: "file://" + o.bare}, "is not the address of a git repository", "https://HOST"},
		{"command", parser.Git{FullURL: "ext::sh -c true"}, "is not the address of a git repository", "https://HOST"},
		{"option", parser.Git{FullURL: "ssh://-oProxyCommand=x/y"}, "is not the address of a git repository", "https://HOST"},
		{"attribute", parser.Git{FullURL: o.url(), Attrs: map[string]string{"git.bundle": "x"}}, "git.bundle=x of a git source is not supported", ""},
		{"agent", parser.Git{FullURL: "ssh://git@127.0.0.1/x.git", MountSSHSock: "default"}, "no ssh agent or key was given", "--ssh default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), tt.op)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(hint.Of(err), tt.hint) {
				t.Errorf("got %v, hint %q", err, hint.Of(err))
			}
		})
	}
	t.Run("no git", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: o.url()})
		if err == nil || !strings.Contains(err.Error(), "git is not installed") || !strings.Contains(hint.Of(err), "install it") {
			t.Errorf("got %v, hint %q", err, hint.Of(err))
		}
	})
}

func TestParseGitRemote(t *testing.T) {
	tests := []struct {
		address string
		want    location
	}{
		{"https://host/a/b.git", location{url: "https://host/a/b.git", scheme: "https", host: "host", shown: "https://host/a/b.git"}},
		{"host/a/b", location{url: "https://host/a/b", scheme: "https", host: "host", shown: "https://host/a/b"}},
		{"https://u:p%40@host:1/b.git", location{url: "https://host:1/b.git", user: "u", password: "p@", scheme: "https", host: "host:1", shown: "https://host:1/b.git"}},
		{"ssh://git@host/b.git", location{url: "ssh://git@host/b.git", user: "git", scheme: "ssh", host: "host", shown: "ssh://git@host/b.git"}},
		{"git@host:b.git", location{url: "git@host:b.git", scheme: "ssh", host: "host", shown: "git@host:b.git"}},
		{"git://host/b.git", location{url: "git://host/b.git", scheme: "git", host: "host", shown: "git://host/b.git"}},
	}
	for _, tt := range tests {
		if got, err := parseLocation(tt.address); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.address, got, err)
		}
	}
}

// redirecting sends every request on to another server, and remembers the
// credentials that come along.
type redirecting struct {
	*httptest.Server
	requests atomic.Int32
}

func redirectTo(t *testing.T, target func(r *http.Request) string) *redirecting {
	t.Helper()
	s := &redirecting{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		http.Redirect(rw, r, target(r), http.StatusMovedPermanently)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestGitTokenRedirect: a token goes to no other host, wherever the repository
// moved; without one git follows.
func TestGitTokenRedirect(t *testing.T) {
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "f"})
	moved := redirectTo(t, func(r *http.Request) string { return o.URL + r.URL.RequestURI() })
	op := parser.Git{FullURL: moved.URL + "/repo.git", AuthTokenSecret: "T", AuthHeaderSecret: "H"}
	if got, err := gitFile(t, fetcher(t, t.TempDir(), nil), op, "f"); got != "f" || err != nil {
		t.Errorf("without a token: got %q, %v", got, err)
	}
	for _, secret := range []string{"T", "H"} {
		before := o.requests.Load()
		_, err := gitFile(t, fetcher(t, t.TempDir(), map[string]string{secret: "token"}), op, "f")
		if err == nil || !strings.Contains(err.Error(), moved.URL) || !strings.Contains(err.Error(), o.URL) || !strings.Contains(hint.Of(err), o.url()) {
			t.Errorf("%s: got %v, hint %q", secret, err, hint.Of(err))
		}
		if o.requests.Load() != before {
			t.Errorf("%s: the other host was asked", secret)
		}
	}
}

// TestGitTokenMoved: a repository that moved on the same server is found with a
// token too.
func TestGitTokenMoved(t *testing.T) {
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "f"})
	var direct atomic.Int32
	o.mu.Lock()
	o.before = func(rw http.ResponseWriter, r *http.Request) bool {
		rest, ok := strings.CutPrefix(r.URL.RequestURI(), "/old")
		if ok {
			direct.Add(1)
			http.Redirect(rw, r, "/repo"+rest, http.StatusMovedPermanently)
		}
		return ok
	}
	o.auth = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:tok"))
	o.mu.Unlock()
	op := parser.Git{FullURL: o.URL + "/old.git", AuthTokenSecret: "T", AuthHeaderSecret: "H"}
	if got, err := gitFile(t, fetcher(t, t.TempDir(), map[string]string{"T": "tok"}), op, "f"); got != "f" || err != nil {
		t.Errorf("got %q, %v, hint %q", got, err, hint.Of(err))
	}
	if direct.Load() == 0 {
		t.Error("the old address was not asked")
	}
}

// TestGitPasswordRedirect: a password in the address is for its host alone.
func TestGitPasswordRedirect(t *testing.T) {
	o := serveGit(t, smart)
	o.write(map[string]string{"f": "f"})
	o.mu.Lock()
	o.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte("name:word"))
	o.mu.Unlock()
	moved := redirectTo(t, func(r *http.Request) string { return o.URL + r.URL.RequestURI() })
	address := strings.Replace(moved.URL, "://", "://name:word@", 1) + "/repo.git"
	got, err := gitFile(t, fetcher(t, t.TempDir(), nil), parser.Git{FullURL: address}, "f")
	if err == nil {
		t.Errorf("got %q: the other host was given the password", got)
	}
}

// TestGitTokenSubmodule: a submodule's server does not get the token of the
// repository, on whatever host it is.
func TestGitTokenSubmodule(t *testing.T) {
	o, other := serveGit(t, smart), serveGit(t, smart)
	commit := other.write(map[string]string{"g": "g"})
	var seen atomic.Value
	other.mu.Lock()
	other.before = func(_ http.ResponseWriter, r *http.Request) bool {
		seen.Store("asked " + r.Header.Get("Authorization"))
		return false
	}
	other.mu.Unlock()
	o.write(map[string]string{".gitmodules": "[submodule \"mod\"]\n\tpath = mod\n\turl = " + other.url() + "\n"})
	o.git("update-index", "--add", "--cacheinfo", "160000,"+commit+",mod")
	o.git("commit", "-q", "-m", "submodule")
	o.push()
	op := parser.Git{FullURL: o.url(), AuthTokenSecret: "T"}
	got, err := gitFile(t, fetcher(t, t.TempDir(), map[string]string{"T": "tok"}), op, "mod/g")
	if got != "g" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if seen.Load() != "asked " {
		t.Errorf("the server of the submodule saw %v", seen.Load())
	}
}

// TestGitProxy: git's number is not all that is said of a proxy.
func TestGitProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	for _, address := range []string{"http://git.example/f.git", "https://git.example/f.git"} {
		for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"} {
			t.Setenv(name, proxy.URL)
		}
		_, err := fetcher(t, t.TempDir(), nil).Files(t.Context(), parser.Git{FullURL: address})
		if err == nil || !strings.Contains(err.Error(), "407") || !strings.Contains(hint.Of(err), "the proxy wants a name and a password") {
			t.Errorf("%s: got %v, hint %q", address, err, hint.Of(err))
		}
	}
}

func TestGitOutputHasALimit(t *testing.T) {
	refuses, drops := capped{left: 3}, capped{left: 3, drop: true}
	for _, c := range []*capped{&refuses, &drops} {
		if n, err := c.Write([]byte("ab")); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := refuses.Write([]byte("cd")); n != 0 || err == nil {
		t.Errorf("wrote %d bytes too many, %v", n, err)
	}
	if n, err := drops.Write([]byte("cd")); n != 2 || err != nil || drops.String() != "abc" {
		t.Errorf("wrote %d, %v: %q", n, err, drops.String())
	}
}
