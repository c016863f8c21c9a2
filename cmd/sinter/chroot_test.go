package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// TestBareChroot builds where nothing is but the program and a context: no /proc,
// no /dev, no /etc, no /tmp, no variable set. What needs no command is built; what
// a command lacks is said.
func TestBareChroot(t *testing.T) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root")
	}
	root := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if !isStatic(t, self) {
		t.Skip("the test's own program needs libraries: CGO_ENABLED=0 makes it static")
	}
	sh(t, "cp", self, filepath.Join(root, "sinter"))
	writeAt(t, filepath.Join(root, "ctx", "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"))
	writeAt(t, filepath.Join(root, "run", "Dockerfile"), []byte("FROM scratch\nRUN [\"/x\"]\n"))
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"build", "--progress=plain", "-o", "type=oci,dest=/out/image.tar", "/ctx"}, exitOK, "written to /out/image.tar"},
		{[]string{"build", "--progress=plain", "/run"}, exitFailed, "hint: RUN needs /proc: mount -t proc proc /proc"},
		{[]string{"verify"}, exitOK, "OK: "},
	} {
		c := &exec.Cmd{Path: "/sinter", Args: append([]string{programName}, tt.args...), Env: []string{}, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Chroot: root}}
		out, err := c.CombinedOutput()
		if code := c.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.want) {
			t.Errorf("%q: %v, want %d with %q\n%s", tt.args, err, tt.code, tt.want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "var", "lib", "sinter")); err != nil {
		t.Errorf("root's own store: %v", err)
	}
}

// isStatic reports whether a program names no loader.
func isStatic(t *testing.T, program string) bool {
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}
