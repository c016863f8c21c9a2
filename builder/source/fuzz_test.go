package source

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// FuzzIgnore: not looking below hidden directories hides nothing that the rules,
// asked about every directory on the way, show. This holds for rules of what is left
// out and for those of what is taken.
func FuzzIgnore(f *testing.F) {
	f.Add("a\n!a/b\n", "a/b/c")
	f.Add("**/*.go\n!**/x?.go\n", "a/x1.go")
	f.Add("*\n!a/*/c\na/b/c/d\n", "a/b/c/d")
	f.Add("[a-c]*/**\n!/a\\*b/\n", "a*b")
	f.Add("# comment\n!\n", "!")
	f.Add(strings.Repeat("*a", 20)+"b\n", strings.Repeat("a", 60))
	f.Add("a/b\nc\n", "a/b/c")
	f.Add("a/b\nc/d\n", "c")
	f.Add("./a/b/\n/c\n../d\n.\n", "a/b")
	f.Fuzz(func(t *testing.T, text, name string) {
		if !layers.IsClean(name) || name == "" || len(text) > 4096 || len(name) > 4096 {
			return
		}
		lines, err := ignorefile.ReadAll(strings.NewReader(text))
		if err != nil {
			return
		}
		p, err := newPatterns(lines, true)
		if err != nil || p == nil {
			return
		}
		plain, err := patternmatcher.New(lines)
		if err != nil {
			t.Fatal(err)
		}
		taken, err := newPatterns(lines, false)
		if err != nil {
			t.Fatal(err)
		}
		var m, of matched
		var hidden bool
		var parent patternmatcher.MatchInfo
		for end := 0; end < len(name); end++ {
			next := strings.IndexByte(name[end:], '/')
			if end += next; next < 0 {
				end = len(name)
			}
			if hidden, parent, err = plain.MatchesUsingParentResults(name[:end], parent); err != nil {
				return
			}
			if m, err = (rules{exclude: p}).judge(name[:end], end < len(name), m); err != nil {
				return
			}
			if of, err = (rules{include: taken}).judge(name[:end], end < len(name), of); err != nil {
				return
			}
		}
		if of.hidden == hidden {
			t.Errorf("%q is taken: %v, as the rules %q have it: %v", name, !of.hidden, lines, hidden)
		}
		if m.hidden != hidden {
			t.Errorf("%q is hidden: %v, as the rules %q have it: %v", name, m.hidden, lines, hidden)
		}
	})
}

// FuzzGitAddress: an address is refused, or is one that git takes for an
// address and that shows no password.
func FuzzGitAddress(f *testing.F) {
	for _, s := range []string{
		"https://github.com/a/b.git", "git@github.com:a/b.git", "ssh://u@h:22/a", "github.com/a/b",
		"https://u:secret@h/a.git#main:sub", "git://h/a", "-oProxyCommand=x:y", "ssh://-oProxyCommand=x/y", "ext::sh -c x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		r, err := parseGitRemote(address)
		if err != nil {
			return
		}
		if strings.HasPrefix(r.url, "-") || strings.HasPrefix(r.host, "-") {
			t.Errorf("git would take %q for an option", r.url)
		}
		switch r.scheme {
		case "http", "https", "ssh", "git":
		default:
			t.Errorf("%q: the scheme %q", address, r.scheme)
		}
		if len(r.password) > 8 && strings.Contains(r.shown, ":"+r.password+"@") {
			t.Errorf("%q shows the password %q", r.shown, r.password)
		}
		_ = folderName(r.url, r.user, r.password)
	})
}

// FuzzGitRefs: whatever a server lists, what is chosen is a commit.
func FuzzGitRefs(f *testing.F) {
	commit := strings.Repeat("1a", 20)
	f.Add(commit+"\trefs/heads/main\n"+commit+"\trefs/tags/main\n"+commit+"\trefs/tags/main^{}\n", "main")
	f.Add("ref: refs/heads/main\tHEAD\n"+commit+"\tHEAD\n", "")
	f.Add("x\trefs/heads/-\n\n\t\n", "-")
	f.Fuzz(func(t *testing.T, listed, ref string) {
		s := gitSource{ref: ref, remote: gitRemote{shown: "h"}}
		if s.check() != nil {
			return
		}
		rev, err := chosen(listed, s)
		if err != nil {
			return
		}
		for _, object := range []string{rev.object, rev.commit} {
			if object != "" && !hexDigits.MatchString(object) {
				t.Errorf("%q was chosen", object)
			}
		}
		if rev.object == "" || rev.ref != "" && !strings.HasPrefix(rev.ref, "refs/") || !harmless(rev.ref) {
			t.Errorf("%+v", rev)
		}
	})
}

// rawAnswers answers every request with the same bytes.
type rawAnswers []byte

func (a rawAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(a)), req)
}

// FuzzHTTPAnswer: a server's answer is refused, or gives one file with a name
// of one part.
func FuzzHTTPAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Disposition: attachment; filename=\"../../x\"\r\nLast-Modified: Mon, 02 Jan 2006 15:04:05 GMT\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: W/\"1\"\r\nContent-Disposition: inline; filename*=UTF-8''..%2f..%2fx\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 503 Wait\r\nRetry-After: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
	} {
		f.Add([]byte(s), "a/b")
	}
	f.Fuzz(func(t *testing.T, answer []byte, path string) {
		dir := t.TempDir()
		r := NewRemotes(dir, nil)
		r.pause = time.Microsecond
		r.client.Transport = rawAnswers(answer)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		files, err := r.HTTP(ctx, parser.HTTP{URL: "http://host.invalid/" + path})
		if err == nil {
			e, _ := readOnly(t, files)
			if !layers.IsClean(e.Path) || e.Path == "" || strings.Contains(e.Path, "/") {
				t.Errorf("the file's name is %q", e.Path)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "downloads", "*", tempPrefix+"*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
}

// FuzzLayout: whatever lies in an OCI layout, finding an image in it reads
// nothing outside of it.
func FuzzLayout(f *testing.F) {
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	sum := digest.FromString(config)
	manifest := `{"schemaVersion":2,"config":{"digest":"` + sum.String() + `","size":1},"layers":[]}`
	for _, d := range []string{digest.FromString(manifest).String(), "sha256:../../../outside", ""} {
		f.Add([]byte(`{"manifests":[{"digest":"`+d+`","annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), []byte(manifest), []byte(config), "ctx:v1")
	}
	f.Fuzz(func(t *testing.T, index, manifest, config []byte, ref string) {
		dir := filepath.Join(t.TempDir(), "layout")
		blobs := filepath.Join(dir, "blobs", "sha256")
		if err := os.MkdirAll(blobs, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{
			filepath.Join(dir, ocispec.ImageIndexFile):                 index,
			filepath.Join(blobs, digest.FromBytes(manifest).Encoded()): manifest,
			filepath.Join(blobs, digest.FromBytes(config).Encoded()):   config,
		} {
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		amd := platforms.MustParse("linux/amd64")
		desc, m, err := layout{dir: dir}.load(ref, &amd)
		if err != nil {
			return
		}
		if desc.Digest != digest.FromBytes(manifest) && desc.Digest != digest.FromBytes(config) || m == nil {
			t.Errorf("%+v", desc)
		}
	})
}

// FuzzSubmodulePaths: what a repository lists never yields a path that git was
// led astray with.
func FuzzSubmodulePaths(f *testing.F) {
	link, module := symlinkMode+"0123 0\t", gitlinkMode+"4567 0\t"
	for _, s := range []string{
		module + "a/b\x00" + link + "c\x00", link + "A\x00" + module + "a/b\x00", module + "a\r\x00", module + "\x00", "\t\x00", module + "/\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, listed string) {
		paths, err := submodulePaths(listed)
		if err != nil {
			if hintOf(err) == "" {
				t.Errorf("%v has no hint", err)
			}
			return
		}
		for _, p := range paths {
			if strings.ContainsAny(p, "\r\n\x00") {
				t.Errorf("%q was not refused", p)
			}
			for dir := p; dir != "." && dir != "/"; dir = path.Dir(dir) {
				for _, l := range strings.Split(listed, "\x00") {
					if strings.HasPrefix(l, symlinkMode) && strings.HasSuffix(l, "\t"+dir) && strings.Count(l, "\t") == 1 {
						t.Errorf("%q lies behind %q", p, l)
					}
				}
			}
		}
	})
}
