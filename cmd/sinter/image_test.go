package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }

// pushBase pushes a small image made of the machine's static busybox.
func pushBase(t *testing.T, ref string) {
	t.Helper()
	img, err := busyboxImage(
		"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
		"root:x:0:\nuser:x:1000:\nstaff:x:50:user\n")
	if err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
}

// busyboxImage is the machine's static busybox with its applets, and the given
// /etc/passwd and /etc/group.
func busyboxImage(passwd, group string) (v1.Image, error) {
	file, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("the tests need Debian's busybox-static: %w", err)
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(file, "--list").Output()
	if err != nil {
		return nil, err
	}
	layerBytes, err := baseLayer(binary, strings.Fields(string(applets)), passwd, group)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layerBytes)), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.Architecture, c.OS = runtime.GOARCH, "linux"
	c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Config.Cmd = []string{"sh"}
	return mutate.ConfigFile(img, c)
}

func baseLayer(busybox []byte, applets []string, passwd, group string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, data []byte) error {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	var err error
	for _, d := range []string{"bin/", "dev/", "etc/", "home/", "proc/", "sys/", "usr/", "usr/bin/", "var/"} {
		err = errors.Join(err, add(tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil))
	}
	err = errors.Join(err, add(tar.Header{Typeflag: tar.TypeDir, Name: "root/", Mode: 0o700}, nil))
	err = errors.Join(err, add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil))
	err = errors.Join(err, add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox))
	for _, a := range applets {
		if a != "busybox" {
			err = errors.Join(err, add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox"}, nil))
		}
	}
	err = errors.Join(err,
		add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte(passwd)),
		add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte(group)),
		w.Close())
	return buf.Bytes(), err
}

// mergedFiles lists what a container made of img would see, one line for each
// path: mode, owner, size, path, link target.
func mergedFiles(img v1.Image) (map[string]string, error) {
	r := mutate.Extract(img)
	defer r.Close()
	files := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		p := path.Clean("/" + h.Name)
		line := fmt.Sprintf("%s %s %d:%d", p, h.FileInfo().Mode(), h.Uid, h.Gid)
		switch h.Typeflag {
		case tar.TypeReg:
			line += fmt.Sprintf(" %d", h.Size)
		case tar.TypeSymlink:
			line += " -> " + h.Linkname
		case tar.TypeLink:
			line += " = " + path.Clean("/"+h.Linkname)
		}
		files[p] = line
	}
}
