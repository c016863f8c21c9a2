package export

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

func unpackTar(t *testing.T, file, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xf", file, "-C", to).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

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

func writeTo(t *testing.T, dest string, imgs []Image, w *writing, o string) error {
	t.Helper()
	out, err := ParseOutput(o + ",dest=" + dest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Write(context.Background(), w.Env, imgs, Options{}, []Output{out}, nil)
	return err
}

func TestLocal(t *testing.T) {
	s, dir := openStore(t), filepath.Join(t.TempDir(), "new", "root")
	img := sample(t, s, amd64)
	w := &writing{Env: Env{Store: s}}
	for range 2 {
		if err := writeTo(t, dir, []Image{img}, w, "type=local"); err != nil {
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
		if info, err := os.Stat(filepath.Join(dir, p)); err != nil || !info.ModTime().Equal(noon) {
			t.Errorf("%s has the time %v, %v", p, info.ModTime(), err)
		}
	}
}

// TestLocalOverOther writes over a directory in which everything is of another
// kind; a symlink that leads out of it must not be followed.
func TestLocalOverOther(t *testing.T) {
	s, dir, outside := openStore(t), t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.Symlink(outside, filepath.Join(dir, "bin")), os.MkdirAll(filepath.Join(dir, "link/x"), 0o755),
		os.WriteFile(filepath.Join(dir, "secret"), nil, 0o644), os.WriteFile(filepath.Join(dir, "other"), nil, 0o644),
		os.WriteFile(filepath.Join(outside, "sh"), []byte("mine"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &writing{Env: Env{Store: s}}
	img := sample(t, s, amd64)
	if err := writeTo(t, dir, []Image{img}, w, "type=local"); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "sh")); err != nil || string(data) != "mine" {
		t.Errorf("outside: %q, %v", data, err)
	}
	if got := listing(t, dir); len(got) != len(sampleFiles)+1 {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if err := writeTo(t, dir, []Image{img}, w, "type=local,mode=delete"); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, dir); !reflect.DeepEqual(got, sampleFiles) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestFilesOfPlatforms(t *testing.T) {
	s, dir := openStore(t), t.TempDir()
	imgs := []Image{sample(t, s, arm64), sample(t, s, amd64)}
	w := &writing{Env: Env{Store: s}}
	if err := writeTo(t, dir+"/local", imgs, w, "type=local,src=/bin"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"drwxr-xr-x linux_amd64", "-rw-r--r-- linux_amd64/sh shell of amd64", "-rw-r--r-- linux_amd64/sh2 shell of amd64",
		"drwxr-xr-x linux_arm64", "-rw-r--r-- linux_arm64/sh shell of arm64", "-rw-r--r-- linux_arm64/sh2 shell of arm64",
	}
	if got := listing(t, dir+"/local"); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if err := writeTo(t, dir+"/root.tar", imgs, w, "type=tar,src=bin"); err != nil {
		t.Fatal(err)
	}
	unpackTar(t, dir+"/root.tar", dir+"/tar")
	if got := listing(t, dir+"/tar"); !reflect.DeepEqual(got, want) {
		t.Errorf("tar has\n%s", strings.Join(got, "\n"))
	}
	err := writeTo(t, dir+"/one", imgs, w, "type=local,platform-split=false")
	if err == nil || !strings.Contains(err.Error(), "both have /bin/sh") {
		t.Errorf("got %v", err)
	}
	err = writeTo(t, dir+"/none", imgs, w, "type=local,src=/bin/sh")
	if err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("got %v", err)
	}
}

// TestHardlinkWhoseFirstNameIsGone: the layer above hides the name that has the
// content; the other name keeps it.
func TestHardlinkWhoseFirstNameIsGone(t *testing.T) {
	s, dir := openStore(t), t.TempDir()
	below := layer(t, s, noon, regular("a", "content"), file{layers.Entry{Path: "b", Kind: layers.Hardlink, Link: "a"}, ""},
		file{layers.Entry{Path: "c", Kind: layers.Hardlink, Link: "a"}, ""},
		file{layers.Entry{Path: "p", Kind: layers.Fifo}, ""}, file{layers.Entry{Path: "q", Kind: layers.Hardlink, Link: "p"}, ""},
		file{layers.Entry{Path: "s", Kind: layers.Symlink, Target: "a"}, ""}, file{layers.Entry{Path: "t", Kind: layers.Hardlink, Link: "s"}, ""})
	above := layer(t, s, noon, regular("a", "another"))
	img := Image{Platform: amd64, Chain: layers.Chain{below, above}}
	if err := writeTo(t, dir+"/root.tar", []Image{img}, &writing{Env: Env{Store: s}}, "type=tar"); err != nil {
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
	l := localWriter{root: root, skipped: []string{"c"}}
	if err := l.link(layers.Entry{Path: "c2", Kind: layers.Hardlink, Link: "c"}); err != nil || len(l.skipped) != 2 {
		t.Errorf("%v, left out: %v", err, l.skipped)
	}
}

func TestEpochInFiles(t *testing.T) {
	s, dir := openStore(t), t.TempDir()
	img := sample(t, s, amd64)
	epoch := int64(1000)
	img.Epoch = &epoch
	if err := writeTo(t, dir, []Image{img}, &writing{Env: Env{Store: s}}, "type=local"); err != nil {
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

func TestEmptyImage(t *testing.T) {
	s, dir := openStore(t), t.TempDir()
	b := assemble(t, s, Options{}, Image{Platform: ocispec.Platform{OS: "linux", Architecture: "riscv64"}})
	if err := WriteLayout(context.Background(), []Named{{Built: b}}, dir, func(string) {}); err != nil {
		t.Fatal(err)
	}
	validateLayout(t, dir)
}
