package sandbox

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

func TestLayers(t *testing.T) {
	b := newBox(t)
	s := b.sh("cat /file /second; echo changed > /file; rm /second; mkdir -p /new/dir; echo x > /new/dir/f")
	second := t.TempDir()
	write(t, second, map[string]string{"second": "second\n", "file": "above\n"})
	s.Lower = append(s.Lower, second)
	b.want(s, "above\nsecond\n")
	b.wantLeft("file", "new", "new/dir", "new/dir/f", "second")
	if data, err := os.ReadFile(filepath.Join(second, "file")); err != nil || string(data) != "above\n" {
		t.Fatalf("a lower directory was written to: %q %v", data, err)
	}
}

// An image may have no layer at all. The directories that every command needs
// stay, as with BuildKit, unless something of the command's own is in them.
func TestNoLayer(t *testing.T) {
	b := newBox(t)
	s := b.spec("/bin/busybox", "ls", "-a", "/")
	s.Lower = nil
	s.Mounts = []Mount{{Type: MountBind, Dest: "/bin", Source: filepath.Join(b.lower, "bin")}}
	b.want(s, ".\n..\nbin\ndev\netc\nproc\nsys\n")
	b.wantLeft("dev", "proc", "sys")
	s = b.spec("/bin/busybox", "true")
	s.Lower = nil
	s.Mounts = []Mount{
		{Type: MountBind, Dest: "/bin", Source: filepath.Join(b.lower, "bin")},
		{Type: MountTmpfs, Dest: "/dev/deep/down"},
	}
	b.want(s, "")
	b.wantLeft("proc", "sys")
}

// A link instead of /proc or /sys is refused, as it is by BuildKit.
func TestLinkedSystem(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"proc", "sys", "dev"} {
		s := b.spec("/bin/busybox", "true")
		lower := t.TempDir()
		write(t, lower, map[string]string{"elsewhere/": ""})
		if err := os.Symlink("elsewhere", filepath.Join(lower, name)); err != nil {
			t.Fatal(err)
		}
		s.Lower = []string{lower}
		s.Mounts = []Mount{{Type: MountBind, Dest: "/bin", Source: filepath.Join(b.lower, "bin")}}
		_, _, err := b.run(s)
		if refused := err != nil && strings.Contains(err.Error(), "symbolic link"); refused != (name != "dev") || (err != nil && !refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManyLayers(t *testing.T) {
	b := newBox(t)
	s := b.sh("cat /n")
	base := t.TempDir()
	for i := range 200 {
		dir := filepath.Join(base, strings.Repeat("long", 30), strings.Repeat("x,:\\", 20), time.Duration(i).String())
		write(t, dir, map[string]string{"n": time.Duration(i).String() + "\n"})
		s.Lower = append(s.Lower, dir)
	}
	b.want(s, "199ns\n")
}

func TestMounts(t *testing.T) {
	b := newBox(t)
	cache, single := t.TempDir(), filepath.Join(t.TempDir(), "file")
	write(t, cache, map[string]string{"kept": "kept\n", "sub/in": "in\n"})
	if err := os.WriteFile(single, []byte("single\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, link := range [][2]string{{"/sub", "abs"}, {"sub", "rel"}, {"/../../../../etc", "out"}} {
		if err := os.Symlink(link[0], filepath.Join(cache, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, script string
		mounts       []Mount
		want         string
		left         []string
	}{
		{"bind", "cat /mnt/a/kept", []Mount{{Type: MountBind, Dest: "/mnt/a", Source: cache, ReadOnly: true}}, "kept\n", nil},
		{"read-only", "echo x 2>/dev/null > /mnt/kept || echo refused", []Mount{{Type: MountBind, Dest: "/mnt", Source: cache, ReadOnly: true}}, "refused\n", nil},
		{"cache", "echo w > /c/w; cat /c/w", []Mount{{Type: MountCache, Dest: "/c", Source: cache}}, "w\n", nil},
		{"cache again", "cat /c/w; rm /c/w", []Mount{{Type: MountCache, Dest: "/c", Source: cache}}, "w\n", nil},
		{"file", "cat /x/y/f", []Mount{{Type: MountBind, Dest: "/x/y/f", Source: single}}, "single\n", nil},
		{"file over file", "cat /file", []Mount{{Type: MountBind, Dest: "/file", Source: single}}, "single\n", nil},
		{"selector", "cat /s/in", []Mount{{Type: MountBind, Dest: "/s", Source: cache, Selector: "sub"}}, "in\n", nil},
		{"selector of a file", "cat /s", []Mount{{Type: MountBind, Dest: "/s", Source: cache, Selector: "/sub/in"}}, "in\n", nil},
		{"selector by links", "cat /s/in /t/in", []Mount{{Type: MountBind, Dest: "/s", Source: cache, Selector: "abs"}, {Type: MountBind, Dest: "/t", Source: cache, Selector: "rel"}}, "in\nin\n", nil},
		{"tmpfs", "stat -c %a /t /tmp; echo x > /t/x", []Mount{{Type: MountTmpfs, Dest: "/t"}, {Type: MountTmpfs, Dest: "/tmp"}}, "1777\n1777\n", nil},
		{"tmpfs size", "dd if=/dev/zero of=/t/x bs=1M count=3 2>/dev/null; stat -c %s /t/x", []Mount{{Type: MountTmpfs, Dest: "/t", Size: 1 << 20}}, "1048576\n", nil},
		{"tmpfs over root's home", "stat -c %a /root; ls -a /root", []Mount{{Type: MountTmpfs, Dest: "/root"}}, "755\n.\n..\n", nil},
		{"in a mount", "ls /t; cat /t/sub/kept", []Mount{{Type: MountTmpfs, Dest: "/t"}, {Type: MountBind, Dest: "/t/sub", Source: cache}}, "sub\nkept\n", nil},
		{"stage", "cat /m/file; echo x > /m/file; cat /m/file", []Mount{{Type: MountBind, Dest: "/m", Lower: []string{b.lower}}}, "lower\nx\n", nil},
		{"stage, read-only", "cat /m; (echo x > /m) 2>/dev/null || echo refused", []Mount{{Type: MountBind, Dest: "/m", Lower: []string{b.lower}, Selector: "file", ReadOnly: true}}, "lower\nrefused\n", nil},
		{"empty stage", "ls -a /m", []Mount{{Type: MountBind, Dest: "/m", ReadOnly: true}}, ".\n..\n", nil},
		{"shm", "stat -f -c %b /dev/shm", []Mount{{Type: MountTmpfs, Dest: "/dev/shm", Size: 1 << 20}}, "256\n", nil},
		{"by a link in the root", "cat /real/kept", []Mount{{Type: MountBind, Dest: "/link/sub", Source: cache, Selector: "sub"}, {Type: MountBind, Dest: "/link", Source: cache}}, "kept\n", []string{"link"}},
		{"kept", "echo x > /made/by/mount/../file", []Mount{{Type: MountTmpfs, Dest: "/made/by/mount"}}, "", []string{"made", "made/by", "made/by/file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := *b
			b.t = t
			s := b.sh(c.script)
			if c.name == "by a link in the root" {
				if err := os.Symlink("real", filepath.Join(s.Upper, "link")); err != nil {
					t.Fatal(err)
				}
			}
			s.Mounts = c.mounts
			for i := range s.Mounts {
				if m := &s.Mounts[i]; m.Type == MountBind && m.Source == "" && !m.ReadOnly {
					dir := t.TempDir()
					write(t, dir, map[string]string{"upper/": "", "work/": ""})
					m.Upper, m.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
				}
			}
			b.want(s, c.want)
			b.wantLeft(c.left...)
		})
	}
}

func TestMountMistakes(t *testing.T) {
	b := newBox(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": ""})
	if err := os.Symlink("/../../../../../../"+dir, filepath.Join(dir, "escape")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m    Mount
		want string
	}{
		{Mount{Type: MountBind, Dest: "/file", Source: dir}, "/file is a file"},
		{Mount{Type: MountBind, Dest: "/bin", Source: dir, Selector: "f"}, "/bin is a directory"},
		{Mount{Type: MountBind, Dest: "/m", Source: dir, Selector: "none"}, "none: no such file or directory"},
		{Mount{Type: MountBind, Dest: "/m", Source: dir, Selector: "escape"}, "escape: no such file or directory"},
		{Mount{Type: MountBind, Dest: "/file/below", Source: dir}, "not a directory"},
	} {
		s := b.sh("true")
		s.Mounts = []Mount{c.m}
		if _, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.m, err, c.want)
		}
	}
}

func TestSecret(t *testing.T) {
	b := newBox(t)
	uid := 1000
	if userns.Single() {
		uid = 0
	}
	s := b.sh("stat -c '%a %u %g' /run/secrets/s; cat /run/secrets/s; (echo x > /run/secrets/s) 2>/dev/null || echo refused; grep -c hidden /proc/1/cmdline /proc/1/environ 2>/dev/null; ls /run")
	s.Mounts = []Mount{{Type: MountSecret, Dest: "/run/secrets/s", Data: []byte("hidden\n"), UID: uid, GID: uid, Mode: 0o440}}
	out, _, err := b.run(s)
	if err != nil {
		t.Fatal(err, out)
	}
	want := "440 1000 1000\nhidden\nrefused\nsecrets\n"
	if userns.Single() {
		want = "440 0 0\nhidden\nrefused\nsecrets\n"
	}
	if got := strings.ReplaceAll(strings.ReplaceAll(out, "/proc/1/cmdline:0\n", ""), "/proc/1/environ:0\n", ""); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	b.wantLeft()
	// Binary content of a size that a pipe does not hold.
	big := strings.Repeat("\x00\xff\n", 1<<17)
	s = b.sh("wc -c < /s")
	s.Mounts = []Mount{{Type: MountSecret, Dest: "/s", Data: []byte(big), Mode: 0o400}}
	b.want(s, "393216\n")
}

func TestSocket(t *testing.T) {
	b := newBox(t)
	path := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := b.sh("test -S /run/agent && echo socket")
	s.Mounts = []Mount{{Type: MountSSH, Dest: "/run/agent", Source: path}}
	b.want(s, "socket\n")
	b.wantLeft()
}

// Mount points are no part of a layer; their parents keep their times.
func TestNoTrace(t *testing.T) {
	b := newBox(t)
	if err := os.MkdirAll(filepath.Join(b.lower, "run/systemd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../run/systemd/resolve/stub.conf", filepath.Join(b.lower, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	for _, d := range []string{"etc", "run/systemd", "."} {
		if err := os.Chtimes(filepath.Join(b.lower, d), old, old); err != nil {
			t.Fatal(err)
		}
	}
	s := b.sh("cat /etc/resolv.conf /etc/hosts >/dev/null; ls /run/systemd/resolve")
	b.want(s, "stub.conf\n")
	b.wantLeft()
	s = b.sh("touch /etc/mine; echo x >> /run/systemd/resolve/mine")
	b.want(s, "")
	b.wantLeft("etc", "etc/mine", "run/systemd/resolve", "run/systemd/resolve/mine")
}

func TestCwd(t *testing.T) {
	b := newBox(t)
	s := b.sh("readlink -f .; stat -c '%u %g %a' . ..")
	s.Cwd, s.User = "/work/dir", "1000:1000"
	want := "/work/dir\n1000 1000 755\n1000 1000 755\n"
	b.want(s, want)
	b.wantLeft("work", "work/dir")
	s = b.sh("readlink -f .")
	s.Cwd = "bin/.."
	b.want(s, "/\n")
	s = b.sh("readlink -f .")
	s.Cwd = "/file"
	if _, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), "working directory /file") {
		t.Fatalf("got %v", err)
	}
}
