package catalog

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/anchore/syft/syft/file"
	"github.com/bmatcuk/doublestar/v4"
)

// tangle is an image with symlinks of all kinds, and a second layer that hides things.
func tangle(t testing.TB) *Image {
	return testImage(t, files{
		"/usr/lib/a/METADATA": "1", "/usr/lib/b/METADATA": "2", "/lib": "-> usr/lib", "/usr/lib/hidden/METADATA": "3",
		"/etc/os": "-> ../usr/os", "/usr/os": "os", "/out": "-> ../../../../etc/os", "/loop": "-> loop2", "/loop2": "-> /loop",
		"/self/again": "-> .", "/self/x.jar": "jar", "/app/link.jar": "-> /self/x.jar", "/dangling": "-> nowhere",
		"/todir": "-> /usr", "/odd/[x]/f*": "odd",
	}, files{
		"/usr/lib/hidden": "gone", "/usr/lib/b/METADATA": "new", "/usr/lib/c/METADATA": "4", "/opt/late.jar": "-> ../self/x.jar",
	})
}

func paths(found []file.Location) []string {
	list := make([]string, 0, len(found))
	for _, l := range found {
		s := l.RealPath
		if l.AccessPath != l.RealPath {
			s += " by " + l.AccessPath
		}
		list = append(list, s+" "+l.FileSystemID)
	}
	slices.Sort(list)
	return list
}

func TestFilesByPath(t *testing.T) {
	r := &resolver{ctx: context.Background(), im: tangle(t), layer: 1}
	for path, want := range map[string]string{
		"/usr/lib/a/METADATA":      "/usr/lib/a/METADATA layer-a",
		"usr/lib/a/METADATA":       "/usr/lib/a/METADATA layer-a",
		"/lib/b/METADATA":          "/usr/lib/b/METADATA by /lib/b/METADATA layer-b",
		"/etc/os":                  "/usr/os by /etc/os layer-a",
		"/out":                     "/usr/os by /out layer-a",
		"/../../etc/os":            "/usr/os by /etc/os layer-a",
		"/usr/lib/hidden/METADATA": "", "/loop": "", "/dangling": "", "/usr": "", "/todir": "", "": "", "/usr/os/x": "",
	} {
		found, err := r.FilesByPath(path)
		if got := strings.Join(paths(found), ", "); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
		one := r.RelativeFileByPath(file.Location{}, path)
		if (one != nil) != (want != "") {
			t.Errorf("%s: %v", path, one)
		}
	}
	for path, want := range map[string]bool{"/usr": true, "/todir": true, "/lib/a": true, "/loop": false, "/dangling": false, "/usr/lib/hidden": false} {
		if got := r.HasPath(path); got != want {
			t.Errorf("HasPath(%s) is %v", path, got)
		}
	}
}

func TestFilesByGlob(t *testing.T) {
	im := tangle(t)
	for _, c := range []struct {
		pattern     string
		all, second string // what an image shows, and its second layer
	}{
		{"**/METADATA", "/usr/lib/a/METADATA layer-a, /usr/lib/b/METADATA layer-b, /usr/lib/c/METADATA layer-b",
			"/usr/lib/b/METADATA layer-b, /usr/lib/c/METADATA layer-b"},
		{"**/*.jar", "/self/x.jar layer-a", ""},
		{"**/late.jar", "/self/x.jar by /opt/late.jar layer-a", "/self/x.jar by /opt/late.jar layer-a"},
		{"**/{a,c}/METADATA", "/usr/lib/a/METADATA layer-a, /usr/lib/c/METADATA layer-b", "/usr/lib/c/METADATA layer-b"},
		{"**/{a/METADATA,os}", "/usr/lib/a/METADATA layer-a, /usr/os layer-a", ""},
		{"/lib/*/MET*", "/usr/lib/a/METADATA layer-a, /usr/lib/b/METADATA layer-b, /usr/lib/c/METADATA layer-b",
			"/usr/lib/b/METADATA layer-b, /usr/lib/c/METADATA layer-b"},
		{"/usr/lib/a/**", "/usr/lib/a/METADATA layer-a", ""},
		{"/usr/os", "/usr/os layer-a", ""},
		{"usr/o?", "/usr/os layer-a", ""},
		{"**/loop*", "", ""},
		{`/odd/\[x\]/*`, "/odd/[x]/f layer-a", ""},
	} {
		for layer, want := range map[int]string{-1: c.all, 1: c.second} {
			found, err := im.files.glob(c.pattern)
			if err != nil {
				t.Errorf("%s: %v", c.pattern, err)
			}
			r := &resolver{im: im, layer: 1}
			if got := strings.Join(paths(r.locations(places(found, layer))), ", "); got != want {
				t.Errorf("%s in layer %d: %q; want %q", c.pattern, layer, got, want)
			}
		}
	}
	if _, err := im.files.glob("a[b"); err == nil {
		t.Error("a bad pattern is taken")
	}
}

// TestGlobIsDoublestars: the short cuts of the index find what doublestar matches.
func TestGlobIsDoublestars(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	all := files{}
	for range 300 {
		dir := ""
		for range 1 + random.IntN(4) {
			dir += "/" + pick("a", "b", "usr", "lib", "x.y")
		}
		all[dir+"/"+pick("f", "f.jar", "g.so.1", "METADATA", "a.b.c")+".f"] = "x"
	}
	im := testImage(t, all)
	for range 2000 {
		pattern := pick("**", "/usr", "/a/b", "/*", "/{a,b}", "/usr/[a-l]*")
		for range random.IntN(3) {
			pattern += "/" + pick("*", "**", "a", "{a,b}", "?", "x.*")
		}
		pattern += "/" + pick("*", "*.f", "f.jar.f", "{f,f.jar}.f", "**", "{a/f.f,b/*}", "[a-g]*", "*.*.f", "f*", "META*", "*.so.1.f", "g*.f", "zz*")
		found, err := im.files.glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, m := range found {
			got = append(got, m.real())
		}
		for path := range all {
			if doublestar.MatchUnvalidated(pattern, path) {
				want = append(want, path)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %q; want %q", pattern, got, want)
		}
	}
}

func elfHeader(kind elf.Type, order string) string {
	b := make([]byte, 64)
	copy(b, elf.ELFMAG+"\x02\x01\x01")
	if order == "big" {
		b[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
		b[17] = byte(kind)
		return string(b)
	}
	b[16] = byte(kind)
	return string(b)
}

func TestFilesByMIMEType(t *testing.T) {
	pe := "MZ" + strings.Repeat("\x00", 62)
	im := testImage(t, files{
		"/bin/prog*": elfHeader(elf.ET_EXEC, ""), "/bin/pie*": elfHeader(elf.ET_DYN, ""), "/bin/big*": elfHeader(elf.ET_EXEC, "big"),
		"/lib/x.so.1": elfHeader(elf.ET_DYN, ""), "/doc/prog": elfHeader(elf.ET_EXEC, ""), "/bin/script*": "#!/bin/sh\necho 123456789",
		"/win.EXE": pe, "/short*": "\x7fELF", "/Class*": "\xca\xfe\xba\xbe\x00\x00\x00\x37" + strings.Repeat("x", 20),
		"/mac*": "\xcf\xfa\xed\xfe" + strings.Repeat("\x00", 28), "/bin/gone*": elfHeader(elf.ET_EXEC, ""),
	}, files{"/bin/gone": "gone", "/bin/second*": elfHeader(elf.ET_EXEC, "")})
	types, err := im.typed(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{ctx: context.Background(), im: im, types: types}
	for kind, want := range map[string]string{
		"application/x-executable":                      "/bin/big layer-a, /bin/prog layer-a",
		"application/x-sharedlib":                       "/bin/pie layer-a, /lib/x.so.1 layer-a",
		"application/vnd.microsoft.portable-executable": "/win.EXE layer-a",
		"application/x-mach-binary":                     "/mac layer-a",
		"text/plain":                                    "",
	} {
		found, err := r.FilesByMIMEType(kind)
		if got := strings.Join(paths(found), ", "); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", kind, got, err, want)
		}
	}
}

func TestContentsAndMetadata(t *testing.T) {
	r := &resolver{ctx: context.Background(), im: tangle(t), layer: -1}
	found, err := r.FilesByPath("/lib/b/METADATA")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	content, err := r.FileContentsByLocation(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(content); err != nil || string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
	m, err := r.FileMetadataByLocation(found[0])
	if err != nil || m.Size() != 3 || m.Mode() != 0o644 || m.Name() != "METADATA" || m.IsDir() {
		t.Errorf("%+v, %v", m, err)
	}
	for _, path := range []string{"/usr", "/nowhere", "/loop"} {
		if _, err := r.FileContentsByLocation(file.NewLocation(path)); err == nil {
			t.Errorf("%s was opened", path)
		}
	}
	for layer, want := range map[int]bool{-1: true, 1: false} {
		r.layer = layer
		seen := map[string]bool{}
		for l := range r.AllLocations(context.Background()) {
			seen[l.RealPath] = true
		}
		if !seen["/usr/lib/c/METADATA"] || seen["/usr/lib/a/METADATA"] != want || seen["/usr/lib/hidden"] {
			t.Errorf("layer %d has %v", layer, seen)
		}
	}
	ended, end := context.WithCancel(context.Background())
	end()
	for l := range r.AllLocations(ended) {
		_ = fmt.Sprint(l) // what was under way may still come; the channel must end
	}
}
