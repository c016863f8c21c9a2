package sandbox

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

func self1(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func exec1(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(t.Context(), args[0], args[1:]...)
}

func TestNames(t *testing.T) {
	b := newBox(t)
	b.want(b.sh("hostname; cat /etc/hosts; cat /etc/hostname"), "buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\nimage\n")
	s := b.sh("hostname; cat /etc/hosts")
	s.Hostname, s.Hosts = "mine", []Host{{"a", "1.2.3.4"}, {"b", "::5"}}
	b.want(s, "mine\n127.0.0.1\tlocalhost mine\n::1\tlocalhost ip6-localhost ip6-loopback\n1.2.3.4\ta\n::5\tb\n")
	b.wantLeft()
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Skip(err)
	}
	b.want(b.sh("cat /etc/resolv.conf"), string(resolv))
	b.want(b.sh("(echo x > /etc/hosts) 2>/dev/null || echo refused"), "refused\n")
}

func TestNamespaces(t *testing.T) {
	b := newBox(t)
	for _, ns := range []string{"mnt", "pid", "ipc", "uts"} {
		host, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		b.want(b.sh("test $(readlink /proc/self/ns/"+ns+") != '"+host+"'"), "")
	}
}

// What shows the host or reaches into it is hidden or read-only.
func TestHidden(t *testing.T) {
	b := newBox(t)
	b.want(b.sh(`
for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do test ! -e $f || wc -c <$f; done | sort -u
ls /sys/firmware 2>/dev/null
for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/x /sys/fs/cgroup/x; do (echo x >$f) 2>/dev/null && echo "wrote $f"; done
true`), "0\n")
	s := b.sh("test $(wc -l </proc/timer_list) -gt 0 && echo shown; (echo x >/proc/sys/kernel/hostname) && hostname")
	s.Insecure = true
	if !userns.Inside() {
		b.want(s, "shown\nx\n")
	}
}

func TestDevices(t *testing.T) {
	b := newBox(t)
	b.want(b.sh("ls /dev | grep -vx core; head -c 4 /dev/zero | wc -c; echo x >/dev/null; head -c 5 /dev/urandom | wc -c; (echo x >/dev/full) 2>/dev/null || echo full"),
		"fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n4\n5\nfull\n")
	b.want(b.sh("echo x >/dev/shm/f; stat -c %a /dev/shm; cat /dev/shm/f; cat </dev/stdin; echo out >/dev/fd/1"), "1777\nx\nout\n")
	s := b.sh("echo out >/dev/stdout")
	s.User = "1000"
	b.want(s, "out\n")
	b.wantLeft()
}

// A node that a command makes, or that an image ships, opens nothing.
func TestNodesAreDead(t *testing.T) {
	b := newBox(t)
	if userns.Inside() {
		t.Skip("nodes cannot be made here")
	}
	b.want(b.sh("for d in / /dev /tmp /dev/shm; do mknod $d/n c 1 5 && head -c1 $d/n 2>/dev/null && echo opened $d; done; rm /n /tmp/n; true"), "")
	b.wantLeft("tmp")
	// On a file system that was made for the command as well, though its mount
	// looks as with BuildKit.
	s := b.sh("grep ' /t ' /proc/mounts; mknod /t/n c 1 5 && chown 7:8 /t/n && stat -c %u:%g:%t /t/n && head -c1 /t/n 2>/dev/null && echo opened; true")
	s.Mounts = []Mount{{Type: MountTmpfs, Dest: "/t", Size: 1 << 20}}
	b.want(s, "tmpfs /t tmpfs rw,nosuid,relatime,size=1024k 0 0\n7:8:1\n")
	// Where there is no such file system, the mount forbids devices.
	p := &pid1.Plan{Insecure: true, Mounts: s.Mounts}
	if made := giveTmpfs(t.Context(), p, 5); made != nil || p.Mounts[0].FD != 0 {
		t.Errorf("an insecure command was given %v", made)
	}
}

func TestSeccomp(t *testing.T) {
	b := newBox(t)
	b.fail(b.sh("unshare -m true 2>/dev/null"), 1, "")
	b.fail(b.sh("mount -t tmpfs none /tmp 2>/dev/null"), 1, "")
	b.fail(b.sh("unshare -U true 2>/dev/null"), 1, "")
	s := b.sh("mount -t tmpfs none /tmp && echo mounted")
	s.Insecure = true
	b.want(s, "mounted\n")
}

// The builder's own mounts and processes are out of reach.
func TestOutOfReach(t *testing.T) {
	b := newBox(t)
	out, _, err := b.run(b.sh("ps -o pid= | wc -l; cat /proc/mounts; ls /proc/1/root /proc/1/fd 2>&1; readlink /proc/1/exe; echo done"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{b.lower, b.upper, "memfd"} {
		if strings.Contains(out, bad) {
			t.Errorf("the command sees %s:\n%s", bad, out)
		}
	}
	if !strings.HasSuffix(out, "done\n") {
		t.Error(out)
	}
}
