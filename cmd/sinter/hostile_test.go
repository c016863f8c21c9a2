package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// hostileImage is a base image with one layer that means harm.
type hostileImage struct {
	name    string
	headers []tar.Header
	// change spoils what the layout says of the layer.
	change func(layer *ocispec.Descriptor, diffID *digest.Digest, blob *[]byte)
	// want is in the error; without it the build succeeds.
	want string
}

// memberKinds returns functions that make the headers of an archive's members.
func memberKinds() (file, dir func(name string) tar.Header, sym, link func(name, to string) tar.Header) {
	one := func(kind byte, size int64) func(string) tar.Header {
		return func(name string) tar.Header { return tar.Header{Name: name, Typeflag: kind, Size: size} }
	}
	two := func(kind byte) func(string, string) tar.Header {
		return func(name, to string) tar.Header { return tar.Header{Name: name, Typeflag: kind, Linkname: to} }
	}
	return one(tar.TypeReg, 1), one(tar.TypeDir, 0), two(tar.TypeSymlink), two(tar.TypeLink)
}

func hostileImages() []hostileImage {
	file, dir, sym, link := memberKinds()
	deep := strings.Repeat("d/", 2000)
	return []hostileImage{
		{name: "climbs", headers: []tar.Header{file("../../outside")}, want: "leads out of the root"},
		{name: "climbs within", headers: []tar.Header{file("a/../../outside")}, want: "leads out of the root"},
		{name: "absolute", headers: []tar.Header{file("/f")}},
		{name: "symlink out", headers: []tar.Header{sym("l", "../../../.."), file("l/f"), file("f")}},
		{name: "symlinks through each other", headers: []tar.Header{sym("a", "b/.."), sym("b", "/.."), file("a/f"), file("f")}},
		{name: "symlink loop", headers: []tar.Header{sym("a", "b"), sym("b", "a"), file("a/f")}, want: "too many symlinks"},
		{name: "hardlink out", headers: []tar.Header{link("f", "../../../etc/passwd")}, want: "leads out of the root"},
		{name: "hardlink to the host", headers: []tar.Header{link("f", "/etc/passwd")}, want: "not in the layer"},
		{name: "hardlink through a symlink", headers: []tar.Header{sym("e", "/etc"), link("f", "e/passwd")}, want: "not in the layer"},
		{name: "hardlink to itself", headers: []tar.Header{link("f", "f")}, want: "not in the layer"},
		{name: "hardlink to what comes later", headers: []tar.Header{link("f", "g"), file("g")}, want: "not in the layer"},
		{name: "hardlink to a directory", headers: []tar.Header{dir("d"), link("f", "d")}, want: "is a directory"},
		{name: "whiteout of nothing", headers: []tar.Header{file(".wh.")}, want: "a whiteout of nothing"},
		{name: "whiteout of the root", headers: []tar.Header{file(".wh..")}, want: "a whiteout of nothing"},
		{name: "whiteout of what is above", headers: []tar.Header{file("d/.wh..."), file("f")}, want: "a whiteout of nothing"},
		{name: "opaque root", headers: []tar.Header{file(".wh..wh..opq"), file("f")}},
		{name: "root that is a file", headers: []tar.Header{file(".")}, want: "the root is not a directory"},
		{name: "two types", headers: []tar.Header{dir("f"), file("f/x"), sym("f", "/"), file("f")}},
		{name: "below a file", headers: []tar.Header{file("f"), file("f/x")}, want: "is not a directory"},
		{name: "devices", headers: []tar.Header{{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}, file("f")}},
		{name: "setuid", headers: []tar.Header{{Name: "f", Typeflag: tar.TypeReg, Size: 1, Mode: 0o6755}}},
		{name: "owner beyond 32 bits", headers: []tar.Header{{Name: "f", Typeflag: tar.TypeReg, Size: 1, Uid: 1 << 32, Gid: 1<<32 + 5}}},
		{name: "long path", headers: []tar.Header{file(strings.Repeat("d/", 3000) + "f")}, want: "the path is too long"},
		{name: "deep", headers: []tar.Header{file(deep + "x"), file("f")}},
		{name: "truncated", headers: []tar.Header{file("f")}, want: "does not match its digest", change: func(_ *ocispec.Descriptor, _ *digest.Digest, blob *[]byte) {
			*blob = (*blob)[:len(*blob)-9]
		}},
		{name: "truncated by whoever made it", headers: []tar.Header{file("f")}, want: "unexpected EOF", change: func(l *ocispec.Descriptor, _ *digest.Digest, blob *[]byte) {
			*blob = (*blob)[:len(*blob)-9]
			l.Digest, l.Size = digest.FromBytes(*blob), int64(len(*blob))
		}},
		{name: "other digest", headers: []tar.Header{file("f")}, want: "does not match its digest", change: func(_ *ocispec.Descriptor, _ *digest.Digest, blob *[]byte) {
			(*blob)[len(*blob)-1]++
		}},
		{name: "other size", headers: []tar.Header{file("f")}, want: "does not match its digest", change: func(l *ocispec.Descriptor, _ *digest.Digest, _ *[]byte) { l.Size++ }},
		{name: "other diff ID", headers: []tar.Header{file("f")}, want: "claims a wrong diff ID", change: func(_ *ocispec.Descriptor, d *digest.Digest, _ *[]byte) { *d = digest.FromString("x") }},
		{name: "other media type", headers: []tar.Header{file("f")}, want: "which is not supported", change: func(l *ocispec.Descriptor, _ *digest.Digest, _ *[]byte) {
			l.MediaType = "application/zip"
		}},
		{name: "foreign layer", headers: []tar.Header{file("f")}, want: "kept elsewhere", change: func(l *ocispec.Descriptor, _ *digest.Digest, _ *[]byte) {
			l.MediaType, l.URLs = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []string{"file:///etc/passwd"}
		}},
	}
}

// write makes an OCI layout of the image.
func (h hostileImage) write(t *testing.T, dir string) {
	t.Helper()
	plain := h.tar(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	blob, diffID := packed.Bytes(), digest.FromBytes(plain)
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	if h.change != nil {
		h.change(&layer, &diffID, &blob)
	}
	put := func(v any) ocispec.Descriptor {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(data)
		writeAt(t, filepath.Join(dir, "blobs", "sha256", d.Encoded()), data)
		return ocispec.Descriptor{Digest: d, Size: int64(len(data))}
	}
	writeAt(t, filepath.Join(dir, "blobs", "sha256", layer.Digest.Encoded()), blob)
	img := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	config := put(img)
	config.MediaType = ocispec.MediaTypeImageConfig
	m := put(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}})
	m.MediaType, m.Annotations = ocispec.MediaTypeImageManifest, map[string]string{ocispec.AnnotationRefName: "v"}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{m}})
	if err != nil {
		t.Fatal(err)
	}
	writeAt(t, filepath.Join(dir, "index.json"), index)
	writeAt(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func (h hostileImage) tar(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, header := range h.headers {
		if header.Mode == 0 {
			header.Mode = 0o755
		}
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat("x", int(header.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func writeAt(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestHostileImages: a base image that means harm is refused with the reason,
// or does what it does inside. Either way the store stays whole.
func TestHostileImages(t *testing.T) {
	top := t.TempDir()
	store, ctx := filepath.Join(top, "store"), filepath.Join(top, "ctx")
	writeAt(t, filepath.Join(ctx, "Dockerfile"), []byte("FROM base\nCOPY --from=base /f /copied/\n"))
	for i, h := range hostileImages() {
		t.Run(h.name, func(t *testing.T) {
			dir := filepath.Join(top, "image", string(rune('a'+i/26))+string(rune('a'+i%26)))
			h.write(t, dir)
			sinter := func(args ...string) (string, error) {
				c := exec.Command("/proc/self/exe", args...)
				c.Args[0] = programName
				c.Env = append(os.Environ(), "SINTER_ROOT="+store)
				out, err := c.CombinedOutput()
				return string(out), err
			}
			out, err := sinter("build", "--progress=plain", "--platform=linux/amd64", "--build-context", "base=oci-layout://"+dir+":v", "-o", filepath.Join(dir, "out"), ctx)
			switch {
			case h.want == "" && err != nil:
				t.Errorf("%v\n%s", err, out)
			case h.want != "" && (err == nil || !strings.Contains(out, "error: ") || !strings.Contains(out, h.want)):
				t.Errorf("%v, want an error with %q\n%s", err, h.want, out)
			}
			if strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
				t.Error(out)
			}
			if out, err := sinter("verify"); err != nil {
				t.Errorf("verify: %v\n%s", err, out)
			}
			if left, err := os.ReadDir(filepath.Join(store, "tmp")); err != nil || len(left) > 0 {
				t.Errorf("left in the store: %v, %v", left, err)
			}
		})
	}
	if there, err := os.ReadDir(top); err != nil || len(there) != 3 {
		t.Errorf("beside store, context and images there is %v, %v", there, err)
	}
}
