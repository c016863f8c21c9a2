package fileop

import (
	"context"
	"errors"
	"math/rand"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

func digestOf(t *testing.T, files source.FS, sel Selection) digest.Digest {
	t.Helper()
	d, err := Digest(context.Background(), files, sel)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDigestSees: what changes the digest of a selection, and what does not.
func TestDigestSees(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making files of other owners needs root")
	}
	defer unix.Umask(unix.Umask(0))
	const before = "d/a text\nd/b text2 mode=0755\nd/l link:a\nd/sub dir\nother text"
	all := Selected(dockerCopy("d", "/"))
	chowned := dockerCopy("d", "/")
	chowned.Owner = num(1, 1)
	excluding := dockerCopy("d", "/")
	excluding.Exclude = []string{"b"}
	for _, tc := range []struct {
		name, after string
		sel         Selection
		same        bool
	}{
		{"nothing", before, all, true},
		{"times", strings.ReplaceAll(before, "text2", "text2 time=55"), all, true},
		{"another file", strings.ReplaceAll(before, "other text", "other changed"), all, true},
		{"content", strings.ReplaceAll(before, "text2", "textX"), all, false},
		{"a permission", strings.ReplaceAll(before, "0755", "0754"), all, false},
		{"a directory's permission", strings.ReplaceAll(before, "sub dir", "sub dir mode=0700"), all, false},
		{"the permission of the directory whose content is taken", before + "\nd dir mode=0700", all, true},
		{"a link's target", strings.ReplaceAll(before, "link:a", "link:b"), all, false},
		{"a link into a file", strings.ReplaceAll(before, "link:a", "a"), all, false},
		{"a name", strings.ReplaceAll(before, "d/a ", "d/c "), all, false},
		{"a new file", before + "\nd/new text", all, false},
		{"a new empty directory", before + "\nd/sub/x dir", all, false},
		{"a capability", strings.ReplaceAll(before, "text2", "text2 cap=1"), all, false},
		{"an attribute, which is not copied", strings.ReplaceAll(before, "text2", "text2 user.one=x"), all, true},
		{"an attribute in a mount", strings.ReplaceAll(before, "text2", "text2 user.one=x"), Subtree("/d"), false},
		{"an attribute of a mount", strings.ReplaceAll(before, "sub dir", "sub dir user.one=x"), Subtree("/d/sub"), false},
		{"a capability in a mount", strings.ReplaceAll(before, "text2", "text2 cap=1"), Subtree("/d"), false},
		{"an owner", strings.ReplaceAll(before, "text2", "text2 owner=5:6"), all, false},
		{"an owner with chown", strings.ReplaceAll(before, "text2", "text2 owner=5:6"), Selected(chowned), true},
		{"an excluded file", strings.ReplaceAll(before, "text2", "textX"), Selected(excluding), true},
		{"a file that is not excluded", strings.ReplaceAll(before, "a text", "a textX"), Selected(excluding), false},
		{"a whole subtree, a permission of its top", before + "\nd dir mode=0700", Subtree("/d"), false},
		{"a whole subtree, elsewhere", strings.ReplaceAll(before, "other text", "other changed"), Subtree("/d"), true},
		{"a hard link", strings.ReplaceAll(before, "d/sub dir", "d/sub dir\nd/z hard:d/a"), all, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			one, two := t.TempDir(), t.TempDir()
			after := strings.TrimSuffix(tc.after, "\nd dir mode=0700")
			build(t, one, before)
			build(t, two, after)
			if after != tc.after {
				if err := os.Chmod(two+"/d", 0o700); err != nil {
					t.Fatal(err)
				}
			}
			got := digestOf(t, disk(one), tc.sel) == digestOf(t, disk(two), tc.sel)
			if got != tc.same {
				t.Errorf("same is %v", got)
			}
		})
	}
}

func TestDigestOfLinksAndCopies(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	build(t, one, "d/a text\nd/b hard:d/a")
	build(t, two, "d/a text\nd/b text")
	sel := Selected(dockerCopy("d", "/"))
	if digestOf(t, disk(one), sel) == digestOf(t, disk(two), sel) {
		t.Error("hard links and copies have the same digest")
	}
}

// TestDigestOfXattrs: attributes cannot be taken for others, or for other files.
func TestDigestOfXattrs(t *testing.T) {
	seen := map[digest.Digest]string{}
	for _, xattrs := range []string{"", "user.one=x", "user.one=y", "user.two=x", "user.one=x user.two=x", "user.one=y user.two=x"} {
		dir := t.TempDir()
		build(t, dir, "a text "+xattrs+"\nb text")
		d := digestOf(t, disk(dir), Subtree("/"))
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q have the same digest", other, xattrs)
		}
		seen[d] = xattrs
	}
}

func TestDigestWildcards(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "a1 text\na2 text\nb text\nl link:b")
	none := digestOf(t, disk(dir), Selected(dockerCopy("x*", "/")))
	some := digestOf(t, disk(dir), Selected(dockerCopy("a*", "/")))
	if none == some {
		t.Error("no match has the digest of some")
	}
	if err := os.WriteFile(dir+"/b", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if digestOf(t, disk(dir), Selected(dockerCopy("a*", "/"))) != some {
		t.Error("a file that does not match counts")
	}
	link := digestOf(t, disk(dir), Selected(dockerCopy("l*", "/")))
	if err := os.WriteFile(dir+"/b", []byte("newer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if digestOf(t, disk(dir), Selected(dockerCopy("l*", "/"))) == link {
		t.Error("what a source symlink leads to does not count")
	}
	if err := os.Rename(dir+"/a2", dir+"/a3"); err != nil {
		t.Fatal(err)
	}
	if digestOf(t, disk(dir), Selected(dockerCopy("a*", "/"))) == some {
		t.Error("the name of a match does not count")
	}
}

func TestDigestErrors(t *testing.T) {
	dir := t.TempDir()
	build(t, dir, "a/b text")
	var missing *MissingError
	for name, c := range map[string]parser.Copy{
		"missing":           dockerCopy("x", "/"),
		"below a file":      dockerCopy("a/b/c", "/"),
		"missing directory": dockerCopy("x/*", "/"),
		"required": func() parser.Copy {
			c := dockerCopy("", "/")
			c.Include, c.RequiredPaths = []string{"a/x"}, []string{"/a/x"}
			return c
		}(),
		"nothing below the root": func() parser.Copy {
			c := dockerCopy("", "/")
			c.Include, c.RequiredPaths = []string{""}, []string{"/"}
			return c
		}(),
		"nothing below a directory": func() parser.Copy {
			c := dockerCopy("a", "/")
			c.Include, c.RequiredPaths = []string{""}, []string{"/a"}
			return c
		}(),
	} {
		if _, err := Digest(context.Background(), disk(dir), Selected(c)); !errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := dockerCopy("", "/")
	c.Include, c.RequiredPaths = []string{"a/b"}, []string{"/a/b"}
	if _, err := Digest(context.Background(), disk(dir), Selected(c)); err != nil {
		t.Errorf("a required path that is there: %v", err)
	}
	c.Include = []string{"[a"}
	if _, err := Digest(context.Background(), disk(dir), Selected(c)); err == nil {
		t.Error("a bad pattern is no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Digest(ctx, disk(dir), Selected(dockerCopy("a", "/"))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSelectionString(t *testing.T) {
	a, b := Selected(dockerCopy("a", "/x")), Selected(dockerCopy("a", "/y"))
	if a.String() != b.String() {
		t.Error("the destination counts")
	}
	seen := map[string]Selection{}
	for _, s := range []Selection{
		a, Selected(dockerCopy("b", "/")), Subtree("a"), Subtree("/"),
		{Source: "/a", Include: []string{"x", "y"}}, {Source: "/a", Include: []string{"x y"}}, {Source: "/a", Exclude: []string{"x", "y"}},
	} {
		if other, ok := seen[s.String()]; ok {
			t.Errorf("%+v and %+v have the same string", s, other)
		}
		seen[s.String()] = s
	}
}

// TestDigestDecides: where the digests of what a copy selects agree, the
// copies agree. Else a key would hit what it must not.
func TestDigestDecides(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making files of other owners needs root")
	}
	defer unix.Umask(unix.Umask(0))
	same := 0
	for seed := range 120 {
		rng := rand.New(rand.NewSource(int64(seed)))
		c := randomCopy(rng)
		spec := randomTree(rng)
		lines := strings.Split(spec, "\n")
		// A small change somewhere, mostly.
		at := rng.Intn(len(lines))
		lines[at] = strings.Replace(lines[at], []string{"text0", "0644", "0755", "owner=1", "text1", "time=1000"}[rng.Intn(6)], []string{"text3", "0640", "0700", "owner=2", "text2", "time=3000"}[rng.Intn(6)], 1)
		one, two := t.TempDir(), t.TempDir()
		build(t, one, spec)
		build(t, two, strings.Join(lines, "\n"))
		results := [2]string{}
		digests := [2]digest.Digest{}
		for i, dir := range []string{one, two} {
			d, err := Digest(context.Background(), disk(dir), Selected(c))
			if err != nil {
				break
			}
			digests[i] = d
			w := newRecorder(t)
			op := parser.FileOp{Actions: []parser.FileAction{{Input: -1, Secondary: 0, Action: c}}}
			_, err = Apply(context.Background(), op, []Input{{FS: disk(dir), Kept: true}}, "", func(int) (Writer, error) { return w, nil })
			if err != nil {
				results[i] = "failed"
				continue
			}
			for k := range w.tree.Entries {
				w.tree.Entries[k].ModTime = 0
			}
			results[i] = strings.Join(w.lines(), "\n")
		}
		if digests[0] == "" || digests[0] != digests[1] {
			continue
		}
		if same++; results[0] != results[1] {
			t.Fatalf("seed %d: same digest, but\n%s\nand\n%s\nfrom\n%s\nand\n%s\nby %+v", seed, results[0], results[1], spec, strings.Join(lines, "\n"), c)
		}
	}
	if same < 10 {
		t.Errorf("only %d pairs with the same digest", same)
	}
}

// TestListNamesWhatDigestSees: a listing differs where the digest does, and says what of
// a file it was.
func TestListNamesWhatDigestSees(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making files of other owners needs root")
	}
	defer unix.Umask(unix.Umask(0))
	const before = "d/a text\nd/b text2 mode=0755\nd/l link:a\nd/sub dir\nother text"
	list := func(tree string, sel Selection) (cache.Listing, digest.Digest) {
		l := cache.Listing{}
		dir := t.TempDir()
		build(t, dir, tree)
		d, err := List(t.Context(), disk(dir), sel, func(f cache.File) error { l[f.Path] = f; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return l, d
	}
	all := Selected(dockerCopy("d", "/"))
	was, d := list(before, all)
	dir := t.TempDir()
	build(t, dir, before)
	if d != digestOf(t, disk(dir), all) {
		t.Error("a listing is of another digest")
	}
	for after, want := range map[string]string{
		"d/a other\nd/b text2 mode=0755\nd/l link:a\nd/sub dir":           "d/a content",
		"d/a text\nd/b text2 mode=0644\nd/l link:a\nd/sub dir":            "d/b mode",
		"d/a text\nd/b text2 mode=0755 owner=5:5\nd/l link:a\nd/sub dir":  "d/b owner",
		"d/a text\nd/b text2 mode=0755\nd/l link:b\nd/sub dir":            "d/l content",
		"d/a text\nd/b text2 mode=0755\nd/l text\nd/sub dir":              "d/l type",
		"d/a text\nd/c text2 mode=0755\nd/l link:a\nd/sub dir":            "d/b gone, d/c added",
		"d/a text\nd/b text2 mode=0755\nd/l link:a\nd/sub dir\nd/sub/n n": "d/sub/n added",
	} {
		now, _ := list(after, all)
		var got []string
		for _, c := range now.Changes(was) {
			got = append(got, c.Path+" "+c.What)
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%q: got %s, want %s", after, text, want)
		}
	}
}
