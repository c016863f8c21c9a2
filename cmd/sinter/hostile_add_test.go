package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hostileArchive is an archive for ADD that means harm.
type hostileArchive struct {
	name    string
	headers []tar.Header
	// change spoils the compressed archive.
	change func(packed []byte) []byte
	// want is in the error; without it the build succeeds and ADD brings files.
	want, files string
}

func hostileArchives() []hostileArchive {
	file, dir, sym, link := memberKinds()
	many := make([]tar.Header, 0, 5000)
	for range cap(many) {
		many = append(many, file("same"))
	}
	return []hostileArchive{
		{name: "climbs", headers: []tar.Header{file("../../../outside")}, files: "outside"},
		{name: "absolute", headers: []tar.Header{file("/f")}, files: "f"},
		{name: "symlink out", headers: []tar.Header{sym("l", "../../../../.."), file("l/outside")}, files: "l outside"},
		{name: "absolute symlink out", headers: []tar.Header{sym("l", "/tmp"), file("l/outside")}, want: `is a symlink to nothing`},
		{name: "symlink loop", headers: []tar.Header{sym("a", "b"), sym("b", "a"), file("a/f")}, want: `too many levels`},
		{name: "hardlink out", headers: []tar.Header{link("f", "../../../../../etc/passwd")}, want: `link to "../../../../../etc/passwd": no such file`},
		{name: "hardlink to the host", headers: []tar.Header{link("f", "/etc/passwd")}, want: `link to "/etc/passwd": no such file`},
		{name: "hardlink through a symlink", headers: []tar.Header{sym("e", "/etc"), link("f", "e/passwd")}, want: `link to "e/passwd": no such file`},
		{name: "hardlink to itself", headers: []tar.Header{link("f", "f")}, want: `link to "f": no such file`},
		{name: "two types", headers: []tar.Header{dir("f"), file("f/x"), sym("f", "/"), file("f")}, files: "f"},
		{name: "file, then directory", headers: []tar.Header{file("f"), dir("f"), file("f/x")}, files: "f/ f/x"},
		{name: "below a file", headers: []tar.Header{file("f"), file("f/x")}, want: `not a directory`},
		{name: "whiteout", headers: []tar.Header{file("f"), file(".wh.f")}, files: "f"},
		{name: "opaque", headers: []tar.Header{file("f"), file(".wh..wh..opq")}, files: "f"},
		{name: "whiteout of the root", headers: []tar.Header{file(".wh..")}},
		{name: "devices", headers: []tar.Header{{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}, file("f")}, files: "f mem"},
		{name: "root that is a file", headers: []tar.Header{file(".")}},
		{name: "truncated", headers: []tar.Header{file("f")}, change: func(b []byte) []byte { return b[:len(b)-9] }, want: "unexpected EOF"},
		{name: "damaged", headers: []tar.Header{file("f")}, change: func(b []byte) []byte { b[len(b)-6]++; return b }, files: "f"},
		{name: "owner beyond 32 bits", headers: []tar.Header{{Name: "f", Typeflag: tar.TypeReg, Size: 1, Uid: 1 << 33}}, files: "f"},
		{name: "long path", headers: []tar.Header{file(strings.Repeat("d/", 3000) + "f")}, want: `file name too long`},
		{name: "long name", headers: []tar.Header{file(strings.Repeat("n", 300))}, want: `file name too long`},
		{name: "many of one name", headers: many, files: "same"},
	}
}

// write makes the archive, compressed.
func (h hostileArchive) write(t *testing.T, path string) {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(hostileImage{headers: h.headers}.tar(t)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	data := packed.Bytes()
	if h.change != nil {
		data = h.change(data)
	}
	writeAt(t, path, data)
}

// TestHostileArchives: what an archive holds stays below the root of the stage,
// or ADD refuses it. Either way the store stays whole.
func TestHostileArchives(t *testing.T) {
	top := t.TempDir()
	store, ctx := filepath.Join(top, "store"), filepath.Join(top, "ctx")
	writeAt(t, filepath.Join(ctx, "Dockerfile"), []byte("FROM scratch\nADD a.tar.gz /in/\n"))
	sinter := func(args ...string) (string, error) {
		c := exec.Command("/proc/self/exe", args...)
		c.Args[0] = programName
		c.Env = append(os.Environ(), "SINTER_ROOT="+store)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	for _, h := range hostileArchives() {
		t.Run(h.name, func(t *testing.T) {
			h.write(t, filepath.Join(ctx, "a.tar.gz"))
			image := filepath.Join(top, "image.tar")
			out, err := sinter("build", "--progress=plain", "-o", "type=tar,dest="+image, ctx)
			switch {
			case h.want != "":
				if err == nil || !strings.Contains(out, "error: ") || !strings.Contains(out, h.want) || !strings.Contains(out, "\nhint: ") {
					t.Errorf("%v, want an error with %q and a hint\n%s", err, h.want, out)
				}
			case err != nil:
				t.Errorf("%v\n%s", err, out)
			default:
				h.compare(t, image)
			}
			if strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
				t.Error(out)
			}
			if out, err := sinter("verify"); err != nil {
				t.Errorf("verify: %v\n%s", err, out)
			}
		})
	}
}

// compare compares the files of an image with those that the archive brings.
func (h hostileArchive) compare(t *testing.T, image string) {
	t.Helper()
	out, err := exec.Command("tar", "-tf", image).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []string{"in/"}
	for _, f := range strings.Fields(h.files) {
		want = append(want, "in/"+f)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("the image has %q, want %q", got, want)
	}
}
