package files

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
)

// listing is what a directory holds: mode, path, content or target.
func listing(t *testing.T, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", info.Mode(), rel)
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line = rel + " -> " + target
		case d.Type().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + string(data)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

var sampleFiles = []string{
	"drwxr-xr-x bin", "-rw-r--r-- bin/sh shell of amd64", "-rw-r--r-- bin/sh2 shell of amd64",
	"link -> bin/sh", "dtrwx------ secret", "urwxr-xr-x secret/set setuid",
}

// sample is an image of two layers.
func sample(t *testing.T, s *store.Store, p ocispec.Platform) assemble.Part {
	t.Helper()
	config, chain := exporttest.Sample(t, s, p)
	return assemble.Part{Platform: p, Config: config, Chain: chain}
}

// how says how files are written.
type how struct {
	source             string
	split, tar, delete bool
	warn               func(string)
}

func writeTo(t *testing.T, s *store.Store, dest string, h how, parts ...assemble.Part) error {
	t.Helper()
	f, err := Open(t.Context(), s, parts, Options{Source: h.source, Split: h.split})
	if err != nil {
		return err
	}
	if h.tar {
		return place.WriteFile(t.Context(), dest, func(w io.Writer) error { return f.WriteTar(t.Context(), w) })
	}
	if h.warn == nil {
		h.warn = func(text string) { t.Logf("warned: %s", text) }
	}
	_, err = f.WriteTo(t.Context(), Directory{Dest: dest, Delete: h.delete, Warn: h.warn})
	return err
}

func TestLocal(t *testing.T) {
	s, dir := exporttest.OpenStore(t), filepath.Join(t.TempDir(), "new", "root")
	img := sample(t, s, exporttest.AMD64)
	for range 2 {
		if err := writeTo(t, s, dir, how{}, img); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, dir); !reflect.DeepEqual(got, sampleFiles) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(sampleFiles, "\n"))
		}
		// The second time finds what a killed build left.
		for _, name := range []string{".sinter-0123456789ab", "bin/.sinter-ba9876543210"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	one, err := os.Stat(filepath.Join(dir, "bin/sh"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.Stat(filepath.Join(dir, "bin/sh2"))
	if err != nil || !os.SameFile(one, two) {
		t.Errorf("two names of a file are two files: %v", err)
	}
	for _, p := range []string{"bin/sh", "secret"} {
		if info, err := os.Stat(filepath.Join(dir, p)); err != nil || !info.ModTime().Equal(exporttest.Noon) {
			t.Errorf("%s has the time %v, %v", p, info.ModTime(), err)
		}
	}
}

// TestLocalOverOther writes over a directory in which everything is of another
// kind; a symlink that leads out of it must not be followed.
func TestLocalOverOther(t *testing.T) {
	s, dir, outside := exporttest.OpenStore(t), t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.Symlink(outside, filepath.Join(dir, "bin")), os.MkdirAll(filepath.Join(dir, "link/x"), 0o755),
		os.WriteFile(filepath.Join(dir, "secret"), nil, 0o644), os.WriteFile(filepath.Join(dir, "other"), nil, 0o644),
		os.WriteFile(filepath.Join(outside, "sh"), []byte("mine"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	img := sample(t, s, exporttest.AMD64)
	if err := writeTo(t, s, dir, how{}, img); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "sh")); err != nil || string(data) != "mine" {
		t.Errorf("outside: %q, %v", data, err)
	}
	if got := listing(t, dir); len(got) != len(sampleFiles)+1 {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if err := writeTo(t, s, dir, how{delete: true}, img); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); !reflect.DeepEqual(got, sampleFiles) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestFilesOfPlatforms(t *testing.T) {
	s, dir := exporttest.OpenStore(t), t.TempDir()
	imgs := []assemble.Part{sample(t, s, exporttest.ARM64), sample(t, s, exporttest.AMD64)}
	if err := writeTo(t, s, dir+"/local", how{source: "/bin", split: true}, imgs...); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"drwxr-xr-x linux_amd64", "-rw-r--r-- linux_amd64/sh shell of amd64", "-rw-r--r-- linux_amd64/sh2 shell of amd64",
		"drwxr-xr-x linux_arm64", "-rw-r--r-- linux_arm64/sh shell of arm64", "-rw-r--r-- linux_arm64/sh2 shell of arm64",
	}
	if got := listing(t, dir+"/local"); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if err := writeTo(t, s, dir+"/root.tar", how{tar: true, source: "bin", split: true}, imgs...); err != nil {
		t.Fatal(err)
	}
	exporttest.UnpackTar(t, dir+"/root.tar", dir+"/tar")
	if got := listing(t, dir+"/tar"); !reflect.DeepEqual(got, want) {
		t.Errorf("tar has\n%s", strings.Join(got, "\n"))
	}
	err := writeTo(t, s, dir+"/one", how{}, imgs...)
	if err == nil || !strings.Contains(err.Error(), "both have /bin/sh") {
		t.Errorf("got %v", err)
	}
	err = writeTo(t, s, dir+"/none", how{source: "/bin/sh", split: true}, imgs...)
	if err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("got %v", err)
	}
}

// TestPlatformsInOneDirectory: what differs is beside each other, directories are one.
func TestPlatformsInOneDirectory(t *testing.T) {
	s := exporttest.OpenStore(t)
	part := func(p ocispec.Platform, mode uint32, files ...exporttest.File) assemble.Part {
		out := sample(t, s, p)
		dir := exporttest.File{Entry: layers.Entry{Path: "out", Kind: layers.Dir, Mode: mode, ModTime: exporttest.Noon.UnixNano()}}
		out.Chain = layers.Chain{exporttest.Layer(t, s, exporttest.Noon, append([]exporttest.File{dir}, files...)...)}
		return out
	}
	amd64 := part(exporttest.AMD64, 0o755, exporttest.Regular("out/b-amd64", "AMD"))
	arm64 := part(exporttest.ARM64, 0o750, exporttest.Regular("out/a-arm64", "ARM"), exporttest.Regular("out/c", "C"))
	want := []string{"drwxr-x--- out", "-rw-r--r-- out/a-arm64 ARM", "-rw-r--r-- out/b-amd64 AMD", "-rw-r--r-- out/c C"}
	dir := t.TempDir()
	if err := writeTo(t, s, dir+"/local", how{}, amd64, arm64); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir+"/local"); !reflect.DeepEqual(got, want) {
		t.Errorf("the directory has\n%s", strings.Join(got, "\n"))
	}
	if err := writeTo(t, s, dir+"/root.tar", how{tar: true}, amd64, arm64); err != nil {
		t.Fatal(err)
	}
	exporttest.UnpackTar(t, dir+"/root.tar", dir+"/tar")
	if got := listing(t, dir+"/tar"); !reflect.DeepEqual(got, want) {
		t.Errorf("the tar has\n%s", strings.Join(got, "\n"))
	}
	other := part(exporttest.ARM64, 0o755, exporttest.File{Entry: layers.Entry{Path: "out/c", Kind: layers.Dir, Mode: 0o755}})
	for _, parts := range [][]assemble.Part{{arm64, other}, {other, arm64}} {
		parts[0].Platform = exporttest.AMD64
		err := writeTo(t, s, dir+"/mixed", how{}, parts...)
		if err == nil || !strings.Contains(err.Error(), "both have /out/c") {
			t.Errorf("a file and a directory in one place: %v", err)
		}
	}
}

// TestHardlinkWhoseFirstNameIsGone: the layer above hides the name that has the
// content; the other name keeps it.
func TestHardlinkWhoseFirstNameIsGone(t *testing.T) {
	s, dir := exporttest.OpenStore(t), t.TempDir()
	below := exporttest.Layer(t, s, exporttest.Noon, exporttest.Regular("a", "content"), exporttest.File{Entry: layers.Entry{Path: "b", Kind: layers.Hardlink, Link: "a"}},
		exporttest.File{Entry: layers.Entry{Path: "c", Kind: layers.Hardlink, Link: "a"}},
		exporttest.File{Entry: layers.Entry{Path: "p", Kind: layers.Fifo}}, exporttest.File{Entry: layers.Entry{Path: "q", Kind: layers.Hardlink, Link: "p"}},
		exporttest.File{Entry: layers.Entry{Path: "s", Kind: layers.Symlink, Target: "a"}}, exporttest.File{Entry: layers.Entry{Path: "t", Kind: layers.Hardlink, Link: "s"}})
	above := exporttest.Layer(t, s, exporttest.Noon, exporttest.Regular("a", "another"))
	img := assemble.Part{Platform: exporttest.AMD64, Chain: layers.Chain{below, above}}
	if err := writeTo(t, s, dir+"/root.tar", how{tar: true}, img); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir + "/root.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		data, rerr := io.ReadAll(r)
		if err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
		got = append(got, fmt.Sprintf("%c %s %s%s", h.Typeflag, h.Name, h.Linkname, data))
	}
	if want := "0 a another,0 b content,1 c b,6 p ,1 q p,2 s a,2 t a"; strings.Join(got, ",") != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestLinkToWhatIsLeftOut: names of a device that may not be made are left out
// with it.
func TestLinkToWhatIsLeftOut(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	l := writer{root: root, skipped: []string{"c"}}
	if err := l.link(layers.Entry{Path: "c2", Kind: layers.Hardlink, Link: "c"}); err != nil || len(l.skipped) != 2 {
		t.Errorf("%v, left out: %v", err, l.skipped)
	}
}

func TestEpochInFiles(t *testing.T) {
	s, dir := exporttest.OpenStore(t), t.TempDir()
	img := sample(t, s, exporttest.AMD64)
	epoch := int64(1000)
	img.Epoch = &epoch
	if err := writeTo(t, s, dir, how{}, img); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"bin", "bin/sh", "link", "secret/set"} {
		info, err := os.Lstat(filepath.Join(dir, p))
		if err != nil || info.ModTime().Unix() != epoch {
			t.Errorf("%s: %v, %v", p, info.ModTime(), err)
		}
	}
}

func TestPlatformDir(t *testing.T) {
	for in, want := range map[string]string{"linux/arm/v7": "linux_arm_v7", "..": "__", ".": "_", "windows(10.0:1)": "windows(10.0_1)"} {
		if got := platformDir(in); got != want {
			t.Errorf("platformDir(%q) = %q", in, got)
		}
	}
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// TestLocalKeepsLivingTemps: a build that looks for leftovers leaves the files that
// another one is writing.
func TestLocalKeepsLivingTemps(t *testing.T) {
	dir := t.TempDir()
	one, other := &writer{root: openRoot(t, dir)}, &writer{root: openRoot(t, dir)}
	e := layers.Entry{Path: "file", Mode: 0o644, ModTime: exporttest.Noon.UnixNano()}
	err := one.file(t.Context(), e, 0, func(context.Context, layers.Entry, int) (io.ReadCloser, error) {
		return io.NopCloser(readerFunc(func([]byte) (int, error) {
			if err := other.removeTemps("."); err != nil {
				return 0, err
			}
			return 0, io.EOF
		})), nil
	})
	if err != nil {
		t.Error(err)
	}
	// From its last byte to its name.
	f, err := os.Create(filepath.Join(dir, localTemp+"0123456789ab"))
	if err != nil {
		t.Fatal(err)
	}
	release, err := place.KeepLocked(f)
	if err := errors.Join(err, f.Close(), other.removeTemps(".")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(f.Name()); err != nil {
		t.Error(err)
	}
	release()
	if err := other.removeTemps("."); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(f.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a leftover stays: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
