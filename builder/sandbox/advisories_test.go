package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests try the vectors of ADVISORIES.md that no other test tries.

// swapping exchanges two names of a directory until the test ends.
func swapping(t *testing.T, dir, a, b string) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE); err != nil {
				<-stop
				stopped <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-stopped; err != nil {
			t.Errorf("exchanging %s and %s: %v", a, b, err)
		}
		unix.Close(fd)
	})
}

// Another command that shares a cache mount exchanges a directory for a symlink
// while mount points and sources below it are looked up. Nothing is mounted,
// made or read outside of the root.
func TestSwappedMounts(t *testing.T) {
	b := newBox(t)
	top := t.TempDir()
	write(t, top, map[string]string{"outside/f": "outside\n", "cache/x/f": "inside\n", "cache/x/point/": ""})
	if err := os.Symlink(filepath.Join(top, "outside"), filepath.Join(top, "cache", "y")); err != nil {
		t.Fatal(err)
	}
	// What the symlink leads to in the command's own root.
	own := filepath.Join(b.lower, top, "outside")
	write(t, own, map[string]string{"f": "inside\n"})
	swapping(t, filepath.Join(top, "cache"), "x", "y")
	cache := filepath.Join(top, "cache")
	for range 30 {
		s := b.sh("cat /source")
		s.Mounts = []Mount{
			{Type: MountCache, Dest: "/cache", Source: cache},
			{Type: MountTmpfs, Dest: "/cache/x/point/made"},
			{Type: MountBind, Dest: "/source", Source: cache, Selector: "x/f"},
		}
		// The command may fail: by its selector, the symlink leads to nothing.
		if out, _, err := b.run(s); strings.Contains(out, "outside") {
			t.Fatalf("the command read a file outside of its source: %q, %v", out, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(top, "outside"))
	if err != nil || len(left) != 1 {
		t.Errorf("outside of the root there is %v, %v", left, err)
	}
}

// A mount point that was made for a command is removed after it, by a path in
// which the command has put a symlink to a directory of this machine.
func TestStubBehindLink(t *testing.T) {
	b := newBox(t)
	outside := t.TempDir()
	write(t, outside, map[string]string{"empty": "", "deep/empty": ""})
	for _, point := range []string{"/made/empty", "/made/deep/empty"} {
		s := b.sh("mv /made /moved && ln -s " + outside + " /made")
		s.Mounts = []Mount{{Type: MountSecret, Dest: point, Data: []byte("secret"), Mode: 0o400}}
		b.want(s, "")
	}
	for _, name := range []string{"empty", "deep/empty"} {
		if _, err := os.Lstat(filepath.Join(outside, name)); err != nil {
			t.Errorf("removed on this machine: %v", err)
		}
	}
}

// What is hidden is hidden with devices of our own, whatever the image or a
// mount has in /dev.
func TestHiddenWithoutDevices(t *testing.T) {
	b := newBox(t)
	for _, dir := range []string{filepath.Join(b.lower, "dev"), t.TempDir()} {
		for _, name := range []string{"null", "console", "ptmx"} {
			if err := os.Symlink("/proc/sys/kernel/core_pattern", filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		// Errors go nowhere: /dev/null may be anything.
		s := b.sh(`exec 2>&-
for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do test ! -e $f || test -c $f || test ! -s $f || echo "shows $f"; done
for f in /proc/kcore /proc/keys /proc/sys/kernel/core_pattern /proc/sysrq-trigger; do (echo x >$f) && test ! -c $f && echo "wrote $f"; done
true`)
		if dir != filepath.Join(b.lower, "dev") {
			s.Mounts = []Mount{{Type: MountCache, Dest: "/dev", Source: dir}}
		}
		b.want(s, "")
	}
}

// openSystem prints the mounts in /sys and /proc that can be written to, but for
// the devices that cover files of /proc.
const openSystem = `while read _ _ _ _ at options _; do case $at in
/proc/acpi|/proc/asound|/proc/interrupts|/proc/kcore|/proc/keys|/proc/latency_stats|/proc/sched_debug|/proc/scsi|/proc/timer_list|/proc/timer_stats) ;;
/sys*|/proc/*) case $options in rw*) echo $at;; esac;;
esac; done </proc/self/mountinfo
`

// Of the kernel's own file systems, a command can write to its processes' files
// in /proc only; in /sys/fs/cgroup to nothing, also where its user owns it.
func TestSystemIsReadOnly(t *testing.T) {
	b := newBox(t)
	for _, mode := range []NetMode{NetDefault, NetNone} {
		s := b.sh(openSystem + `for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/sinter-advisory 2>/dev/null && echo "made a control group in $d"; done; true`)
		s.Network = mode
		b.want(s, "")
	}
}

// Neither a command nor the processes that it sees have the builder's
// environment.
func TestBuilderEnvironment(t *testing.T) {
	b := newBox(t)
	t.Setenv("REGISTRY_PASSWORD", "of-the-builder")
	s := b.sh("env; cat /proc/*/environ 2>/dev/null; cat /proc/*/cmdline; true")
	out, _, err := b.run(s)
	if err != nil || strings.Contains(out, "of-the-builder") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The files that tell users' numbers are the image's own, and of a bounded size.
func TestUserFilesOfImage(t *testing.T) {
	b := newBox(t)
	host := t.TempDir()
	write(t, host, map[string]string{"passwd": "user:x:4321:4321::/stolen:/bin/sh\n"})
	passwd, group := filepath.Join(b.lower, "etc/passwd"), filepath.Join(b.lower, "etc/group")
	for _, target := range []string{filepath.Join(host, "passwd"), "../../../../../../../.." + filepath.Join(host, "passwd")} {
		if err := errors.Join(os.Remove(passwd), os.Symlink(target, passwd)); err != nil {
			t.Fatal(err)
		}
		s := b.sh("id -u")
		s.User = "user"
		if out, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), `user "user"`) {
			t.Errorf("%s: got %q, %v", target, out, err)
		}
	}
	// Sparse: it costs nothing to ship, and would fill the memory when read.
	if err := errors.Join(os.Remove(passwd), os.Truncate(group, 1<<40)); err != nil && !errors.Is(err, syscall.EFBIG) {
		t.Fatal(err)
	}
	s := b.sh("true")
	s.User = "user"
	if _, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

// A mount that a symlink of the image leads into /proc or /sys opens nothing
// there: what is hidden and read-only stays so.
func TestMountByLink(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"proc", "sys"} {
		if err := os.Symlink("/"+name, filepath.Join(b.lower, "link-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dest := range []string{"/link-proc/sys", "/link-proc/sys/kernel", "/link-proc/self/attr", "/link-proc/bus", "/link-sys/firmware", "/link-sys/fs", "/link-sys/kernel"} {
		s := b.sh(openSystem)
		s.Mounts = []Mount{{Type: MountTmpfs, Dest: dest}}
		out, _, err := b.run(s)
		if err != nil && out == "" {
			continue // refused, or the kernel has no such directory
		}
		for line := range strings.Lines(out) {
			if at := strings.TrimSpace(line); at != strings.Replace(dest, "/link-", "/", 1) && at != "/proc/1/attr" {
				t.Errorf("%s: %s is open", dest, at)
			}
		}
	}
}

// A /dev of the image that is a symlink leads nowhere on this machine.
func TestLinkedDev(t *testing.T) {
	b := newBox(t)
	dev, outside := filepath.Join(b.lower, "dev"), t.TempDir()
	write(t, outside, map[string]string{"pts/": ""})
	if err := os.Remove(dev); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{outside, "../../../../../../../.." + outside, "/proc/1/root" + outside, "/proc/self/cwd", "/proc/self/fd/3"} {
		if err := os.Symlink(target, dev); err != nil {
			t.Fatal(err)
		}
		// The command may fail: what counts is what it does here.
		out, _, err := b.run(b.sh("echo written >/dev/written"))
		t.Logf("%s: %q, %v", target, out, err)
		if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
			t.Errorf("%s: on this machine there is %v, %v", target, left, err)
		}
		if err := os.Remove(dev); err != nil {
			t.Fatal(err)
		}
	}
}

// A number of a user that does not fit into the kernel's is refused: what is
// left of it could be root's.
func TestUserNumbersDoNotOverflow(t *testing.T) {
	b := newBox(t)
	passwd := filepath.Join(b.lower, "etc/passwd")
	for user, entry := range map[string]string{
		"4294967295": "", "4294967296": "", "0:4294967296": "", "1:4294967295": "", "18446744073709551616": "", "-1": "", "1:-1": "",
		"big": "big:x:4294967296:1::/:/bin/sh\n", "none": "none:x:4294967295:1::/:/bin/sh\n", "group": "group:x:1:4294967296::/:/bin/sh\n",
	} {
		if err := os.WriteFile(passwd, []byte("root:x:0:0::/root:/bin/sh\n"+entry), 0o644); err != nil {
			t.Fatal(err)
		}
		s := b.sh("id")
		s.User = user
		if out, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), `user "`+user+`"`) {
			t.Errorf("%s: got %q, %v", user, out, err)
		}
	}
}
