package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// TestSharedNetworkIsTold: where another program answers system calls, commands run
// in the machine's network namespace, and the build says so once.
func TestSharedNetworkIsTold(t *testing.T) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to load a filter")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.TempDir()
	writeAt(t, filepath.Join(ctx, "busybox"), program)
	writeAt(t, filepath.Join(ctx, "Dockerfile"), []byte("FROM scratch\nCOPY --chmod=755 busybox /bin/sh\nRUN true\nRUN echo two\nRUN --network=none echo three\n"))
	build := func() string {
		cmd := exec.Command("/proc/self/exe", "build", "--no-cache", "--progress=plain", ctx)
		cmd.Args[0] = programName
		cmd.Env = append(os.Environ(), "SINTER_ROOT="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			return err.Error() + "\n" + string(out)
		}
		return string(out)
	}
	const warning = "RUN and other programs of this machine can reach each other through abstract Unix sockets: answering its calls of socket(2): another program"
	outside := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked: the filter ends with the thread
		allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
		filter := unix.SockFprog{Len: 1, Filter: &allow}
		if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&filter))); errno != 0 && errno != unix.EBUSY {
			outside <- errno.Error()
			return
		}
		outside <- build()
	}()
	if out := <-outside; strings.Count(out, warning) != 1 || !strings.Contains(out, "built image") {
		t.Errorf("with a listener outside:\n%s", out)
	}
	if err := sandbox.Exposed(sandbox.Spec{}); err != nil {
		t.Skip("as it is here: ", err)
	}
	if out := build(); strings.Contains(out, "abstract") || !strings.Contains(out, "built image") {
		t.Errorf("without:\n%s", out)
	}
}
