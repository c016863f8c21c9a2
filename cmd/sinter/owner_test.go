package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

// TestStoreOfAnotherUser: root does not use a user's store, nor a user what another
// one prepared; a volume that everybody may write to serves a user, also when
// commands run in a user namespace.
func TestStoreOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 || userns.Inside() {
		t.Skip("needs root, to make users")
	}
	work, err := os.MkdirTemp("/var/tmp", "sinter-owner-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(work); err != nil {
			t.Error(err)
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, context := filepath.Join(work, "test"), filepath.Join(work, "context")
	volume, home := filepath.Join(work, "volume"), filepath.Join(work, "home")
	sh(t, "cp", self, program)
	sh(t, "chmod", "755", work)
	for _, dir := range []string{context, volume, home} {
		sh(t, "mkdir", dir)
	}
	sh(t, "sh", "-c", `printf 'FROM scratch\nCOPY file /\n' >"$0"/Dockerfile; touch "$0"/file`, context)
	if err := unix.Mount("none", volume, "tmpfs", 0, "mode=0777"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(volume, 0); err != nil {
			t.Error(err)
		}
	})
	who, other := makeUser(t, false), makeUser(t, false)
	sh(t, "chown", who.Username+":", home)
	sinter := func(as *syscall.Credential, root string, args ...string) string {
		t.Helper()
		c := exec.Command(program, args...)
		c.Args[0] = programName
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "SINTER_ROOT=" + root, "GORACE=" + noWait}
		c.Dir = work
		c.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		out, err := c.CombinedOutput()
		if err != nil {
			return string(out)
		}
		return ""
	}
	users, others := credential(t, who), credential(t, other)
	for _, root := range []string{volume, filepath.Join(home, "store")} {
		// A local output needs the user namespace.
		out := filepath.Join(home, "out")
		if said := sinter(users, root, "build", "-o", out, context); said != "" {
			t.Fatalf("%s: the owner got %s", root, said)
		}
		if said := sinter(users, root, "prune", "--force"); said != "" {
			t.Fatalf("%s: the owner got %s", root, said)
		}
		if root != volume {
			sh(t, "chmod", "755", root)
		}
		for name, as := range map[string]*syscall.Credential{"root": nil, "another user": others} {
			said, hint := sinter(as, root, "images"), "hint: name a directory of your own"
			if as == nil {
				hint = "hint: run sinter without sudo"
			}
			if !strings.Contains(said, "belongs to user "+who.Uid) || !strings.Contains(said, hint) {
				t.Errorf("%s: %s got %q", root, name, said)
			}
		}
	}
}
