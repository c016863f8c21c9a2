package git

import (
	"path"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/hint"
)

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
		r, err := parseLocation(address)
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
		_ = remote.Name(r.url, r.user, r.password)
	})
}

// FuzzGitRefs: whatever a server lists, what is chosen is a commit.
func FuzzGitRefs(f *testing.F) {
	commit := strings.Repeat("1a", 20)
	f.Add(commit+"\trefs/heads/main\n"+commit+"\trefs/tags/main\n"+commit+"\trefs/tags/main^{}\n", "main")
	f.Add("ref: refs/heads/main\tHEAD\n"+commit+"\tHEAD\n", "")
	f.Add("x\trefs/heads/-\n\n\t\n", "-")
	f.Fuzz(func(t *testing.T, listed, ref string) {
		s := request{ref: ref, remote: location{shown: "h"}}
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
			if hint.Of(err) == "" {
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
