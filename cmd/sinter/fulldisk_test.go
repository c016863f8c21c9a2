package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// fullDisk is a small disk for stores, and a context with a base.
type fullDisk struct{ small, ctx, base string }

// newFullDisk mounts a tmpfs with options.
func newFullDisk(t *testing.T, options string) *fullDisk {
	t.Helper()
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to mount a small disk")
	}
	d := &fullDisk{small: t.TempDir(), ctx: t.TempDir()}
	if err := unix.Mount("none", d.small, "tmpfs", 0, options); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.small, 0); err != nil {
			t.Error(err)
		}
	})
	registry := serveRegistry(t)
	pushBase(t, registry+"/base:latest")
	d.base = registry + "/base"
	return d
}

func (d *fullDisk) sinter(t *testing.T, store string, args ...string) (string, int) {
	t.Helper()
	c := exec.Command("/proc/self/exe", args...)
	c.Args[0] = programName
	c.Env = append(os.Environ(), "SINTER_ROOT="+store)
	out, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

func (d *fullDisk) build(t *testing.T, store, file string, more ...string) (string, int) {
	t.Helper()
	return d.sinter(t, store, append([]string{"build", "--progress=plain", "--build-context", "base=docker-image://" + d.base,
		"-f", filepath.Join(d.ctx, file+".Dockerfile"), d.ctx}, more...)...)
}

// TestNoInodes: a disk that has room but no inodes is not called full.
func TestNoInodes(t *testing.T) {
	d := newFullDisk(t, "size=200m,nr_inodes=600")
	store := filepath.Join(d.small, "store")
	for i := range 700 {
		writeAt(t, filepath.Join(d.ctx, "many", strconv.Itoa(i)), nil)
	}
	writeAt(t, filepath.Join(d.ctx, "run.Dockerfile"), []byte("FROM base\nRUN i=0; while [ $i -lt 700 ]; do : >/f$i || exit 1; i=$((i+1)); done\n"))
	writeAt(t, filepath.Join(d.ctx, "copy.Dockerfile"), []byte("FROM base\nCOPY many /many\nRUN true\n"))
	for _, file := range []string{"run", "copy"} {
		out, code := d.build(t, store, file)
		if code != exitFailed || !strings.Contains(out, "hint: the file system has no inodes left") || strings.Contains(out, "the disk is full") {
			t.Errorf("%s: code %d\n%s", file, code, out)
		}
	}
}

// TestFullDisk: a build that finds no room says so with a hint, leaves the
// store whole, and works once there is room.
func TestFullDisk(t *testing.T) {
	d := newFullDisk(t, "size=16m")
	small, ctx := d.small, d.ctx
	large := make([]byte, 20_000_000) // that cannot be compressed
	_, _ = rand.NewChaCha8([32]byte{}).Read(large)
	writeAt(t, filepath.Join(ctx, "large"), large)
	writeAt(t, filepath.Join(ctx, "small"), []byte("x"))
	writeAt(t, filepath.Join(ctx, "copy.Dockerfile"), []byte("FROM scratch\nCOPY large /\n"))
	writeAt(t, filepath.Join(ctx, "run.Dockerfile"), []byte("FROM base\nRUN head -c 20000000 /dev/zero >/large\n"))
	writeAt(t, filepath.Join(ctx, "tidy.Dockerfile"), []byte("FROM base\nRUN dd if=/dev/zero of=/large bs=1000000 count=20 || { rm /large; exit 1; }\n"))
	writeAt(t, filepath.Join(ctx, "ok.Dockerfile"), []byte("FROM scratch\nCOPY small /\n"))
	roomy := t.TempDir()
	for _, tt := range []struct {
		name, store, file string
		output            []string
	}{
		{"copy", filepath.Join(small, "store"), "copy", nil},
		{"run", filepath.Join(small, "store"), "run", nil},
		{"run that tidies up", filepath.Join(small, "store"), "tidy", nil},
		{"tar", roomy, "copy", []string{"-o", "type=oci,compression=uncompressed,dest=" + filepath.Join(small, "out.tar")}},
		{"layout", roomy, "copy", []string{"-o", "type=oci,tar=false,compression=uncompressed,dest=" + filepath.Join(small, "layout")}},
		{"files", roomy, "copy", []string{"-o", filepath.Join(small, "files")}},
	} {
		hint := "hint: the disk is full"
		if tt.file == "tidy" {
			hint = "hint: the command found a disk or a tmpfs full"
		}
		out, code := d.build(t, tt.store, tt.file, tt.output...)
		if code != exitFailed || !strings.Contains(out, "error: ") || !strings.Contains(out, hint) {
			t.Errorf("%s: code %d, want %d and that the disk is full\n%s", tt.name, code, exitFailed, out)
		}
		if out, code := d.sinter(t, tt.store, "verify"); code != exitOK {
			t.Errorf("%s: verify: code %d\n%s", tt.name, code, out)
		}
		if left := half(t, tt.store, small); len(left) > 0 {
			t.Errorf("%s: left are %v", tt.name, left)
		}
		if out, code := d.build(t, filepath.Join(small, "store"), "ok"); code != exitOK {
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
