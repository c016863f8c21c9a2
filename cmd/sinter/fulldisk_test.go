package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// TestFullDisk: a build that finds no room says so with a way out, leaves the
// store whole, and works once there is room.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to mount a small disk")
	}
	small, ctx := t.TempDir(), t.TempDir()
	if err := unix.Mount("none", small, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	large := make([]byte, 8_000_000) // that cannot be compressed
	_, _ = rand.NewChaCha8([32]byte{}).Read(large)
	writeAt(t, filepath.Join(ctx, "large"), large)
	writeAt(t, filepath.Join(ctx, "small"), []byte("x"))
	writeAt(t, filepath.Join(ctx, "copy.Dockerfile"), []byte("FROM scratch\nCOPY large /\n"))
	writeAt(t, filepath.Join(ctx, "run.Dockerfile"), []byte("FROM base\nRUN head -c 8000000 /dev/urandom >/large\n"))
	writeAt(t, filepath.Join(ctx, "ok.Dockerfile"), []byte("FROM scratch\nCOPY small /\n"))
	sinter := func(store string, args ...string) (string, int) {
		c := exec.Command("/proc/self/exe", args...)
		c.Args[0] = programName
		c.Env = append(os.Environ(), "SINTER_ROOT="+store)
		out, err := c.CombinedOutput()
		if err != nil && c.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), c.ProcessState.ExitCode()
	}
	build := func(store, file string, more ...string) (string, int) {
		return sinter(store, append([]string{"build", "--progress=plain", "--build-context", "base=docker-image://" + registry + "/base",
			"-f", filepath.Join(ctx, file+".Dockerfile"), ctx}, more...)...)
	}
	roomy := t.TempDir()
	for _, tt := range []struct {
		name, store, file string
		output            []string
	}{
		{"copy", filepath.Join(small, "store"), "copy", nil},
		{"run", filepath.Join(small, "store"), "run", nil},
		{"tar", roomy, "copy", []string{"-o", "type=oci,compression=uncompressed,dest=" + filepath.Join(small, "out.tar")}},
		{"layout", roomy, "copy", []string{"-o", "type=oci,tar=false,compression=uncompressed,dest=" + filepath.Join(small, "layout")}},
		{"files", roomy, "copy", []string{"-o", filepath.Join(small, "files")}},
	} {
		out, code := build(tt.store, tt.file, tt.output...)
		if code != exitFailed || !strings.Contains(out, "error: ") || !strings.Contains(out, "hint: the disk is full") {
			t.Errorf("%s: code %d, want %d and that the disk is full\n%s", tt.name, code, exitFailed, out)
		}
		if out, code := sinter(tt.store, "verify"); code != exitOK {
			t.Errorf("%s: verify: code %d\n%s", tt.name, code, out)
		}
		if left := half(t, tt.store, small); len(left) > 0 {
			t.Errorf("%s: left are %v", tt.name, left)
		}
		if out, code := build(filepath.Join(small, "store"), "ok"); code != exitOK {
			t.Errorf("%s: a build that has room: code %d\n%s", tt.name, code, out)
		}
	}
}

// half lists the files that are being written, when no build is running: those
// in a store's folder of temporary files, and outputs of builds that failed.
func half(t *testing.T, store, outputs string) []string {
	t.Helper()
	var left []string
	for _, pattern := range []string{filepath.Join(store, "tmp", "*"), filepath.Join(outputs, "*out.tar*"),
		filepath.Join(outputs, "files", "*"), filepath.Join(outputs, "layout", "blobs", "*", ".*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}
