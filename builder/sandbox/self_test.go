package sandbox

import (
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// Nobody can write to what the init runs from, in both of its forms.
func TestSelfIsSealed(t *testing.T) {
	if userns.Needed() {
		t.Skip("needs root, if only in a user namespace")
	}
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for name, make := range map[string]func(*os.File) (*os.File, error){"overlay": overlaySelf, "copy": copySelf} {
		f, err := make(src)
		if err != nil {
			t.Fatal(name, err)
		}
		path := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
		if w, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			if _, err := w.WriteAt([]byte("x"), 0); err == nil {
				t.Fatal(name, "is written to")
			}
			w.Close()
		} else if !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.ETXTBSY) && !errors.Is(err, fs.ErrPermission) {
			t.Error(name, err)
		}
		if err := os.Truncate(path, 0); err == nil {
			t.Fatal(name, "is truncated")
		}
		cmd := exec.CommandContext(t.Context(), path, "-test.run", "^$")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		f.Close()
	}
}

// needStatic skips tests that run this binary in a root without a C library:
// under the race detector it needs one.
func needStatic(t *testing.T) {
	t.Helper()
	f, err := elf.Open(self1(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Skip("this binary is not static: ", libs, err)
	}
}

// A command that reaches the init's executable can neither run nor change it,
// whatever its capabilities.
func TestSelfOutOfReach(t *testing.T) {
	b := newBox(t)
	needStatic(t)
	write(t, b.lower, map[string]string{"loader": "#!/proc/self/exe\n", "exec": "#!/bin/sh\nexec /proc/1/exe -test.run '^$'\n"})
	b.fail(b.spec("/loader"), 126, "exit code: 126")
	before, err := os.ReadFile(self1(t))
	if err != nil {
		t.Fatal(err)
	}
	s := b.sh("(echo x >/proc/1/exe) 2>/dev/null && echo wrote; /exec; echo $?")
	s.Insecure = true
	b.want(s, "126\n")
	after, err := os.ReadFile(self1(t))
	if err != nil || string(before) != string(after) {
		t.Fatal("the binary changed", err)
	}
	// A copy of the builder in the image is its own affair.
	exe := filepath.Join(b.lower, "builder")
	if err := os.WriteFile(exe, before, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, _, err := b.run(b.spec("/builder", "-test.run", "^$")); err != nil {
		t.Fatal(err, out)
	}
}
