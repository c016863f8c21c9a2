package pid1

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs a test on a thread with mounts of its own, which ends then.
func inNamespace(t *testing.T, test func(in *sandboxInit)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	stage := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("stage", stage, "tmpfs", 0, ""); err != nil {
			t.Error(err)
			return
		}
		test(&sandboxInit{plan: Plan{Stage: stage}})
	}()
	<-done
}

// Kernels without lowerdir+ get the same by mount(2).
func TestOldOverlay(t *testing.T) {
	inNamespace(t, func(in *sandboxInit) {
		var open openDirs
		defer open.close()
		name := func(name, content string) string {
			dir := in.stage(name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if content != "" {
				if err := os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			n, err := open.name(dir)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		names := []string{name("top", "top"), name("bottom", "bottom")}
		if _, err := in.overlayOptions(&open, in.stage("upper"), in.stage("work")); err == nil {
			t.Fatal("missing directories are mounted")
		}
		name("upper", "")
		name("work", "")
		options, err := in.overlayOptions(&open, in.stage("upper"), in.stage("work"))
		if err != nil {
			t.Fatal(err)
		}
		fd, err := in.oldOverlay(names, options, unix.MOUNT_ATTR_NODEV)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		data, err := os.ReadFile(fdPath(fd) + "/file")
		if err != nil || string(data) != "top" {
			t.Fatalf("got %q, %v", data, err)
		}
		many := make([]string, 400)
		for i := range many {
			many[i] = names[0]
		}
		if _, err := in.oldOverlay(many, options, 0); err == nil || !strings.Contains(err.Error(), "cannot stack 400 layers") {
			t.Fatalf("got %v", err)
		}
	})
}

// What the kernel says about a mount is part of the error.
func TestKernelLog(t *testing.T) {
	inNamespace(t, func(in *sandboxInit) {
		_, err := NewMount("overlay", 0, "lowerdir="+in.stage("missing"))
		if err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("got %v", err)
		}
		if _, err := NewMount("tmpfs", 0, "nonsense=1"); err == nil || !strings.Contains(err.Error(), "nonsense") {
			t.Errorf("got %v", err)
		}
		fd, err := NewMount("tmpfs", 0, "?nonsense=1")
		if err != nil {
			t.Error(err)
		}
		unix.Close(fd)
	})
}
