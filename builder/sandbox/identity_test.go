package sandbox

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
)

func TestUser(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct{ user, id, home string }{
		{"", "0 0 0", "/root"},
		{"root", "0 0 0", "/root"},
		{"user", "1000 1000 1000 1001", "/home/user"},
		{"1000", "1000 1000 1000 1001", "/home/user"},
		{"user:extra", "1000 1001 1001", "/home/user"},
		{"1000:7", "1000 7 7", "/home/user"},
		{"12", "12 0 0", "/"},
		{"12:34", "12 34 34", "/"},
	} {
		s := b.sh("id -u; id -g; id -G; echo $HOME")
		s.User = c.user
		if userns.Single() {
			s.Args[2] = "id -u; id -g; echo $HOME"
			c.id = strings.Join(strings.Fields(c.id)[:2], " ")
		}
		f := strings.Fields(c.id)
		want := f[0] + "\n" + f[1] + "\n" + strings.Join(f[2:], " ") + "\n" + c.home + "\n"
		if userns.Single() {
			want = f[0] + "\n" + f[1] + "\n" + c.home + "\n"
		}
		b.want(s, want)
	}
	s := b.sh("true")
	s.User = "nobody-here"
	if _, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), `user "nobody-here"`) {
		t.Fatalf("got %v", err)
	}
	s = b.sh("echo $HOME")
	s.Env = append(s.Env, "HOME=/mine")
	b.want(s, "/mine\n")
	s = b.spec("env")
	s.Env = []string{"PATH=/nowhere", "A=1", "B=", "A=2=3", "PATH=/bin", "nonsense"}
	b.want(s, "PATH=/bin\nA=2=3\nB=\nHOME=/root\n")
}

// A root without /etc/passwd has root, and numbers.
func TestNoPasswd(t *testing.T) {
	b := newBox(t)
	if err := os.RemoveAll(b.lower + "/etc"); err != nil {
		t.Fatal(err)
	}
	b.want(b.sh("id -u; echo $HOME"), "0\n/\n")
	s := b.sh("id -u; id -g")
	s.User = "5"
	b.want(s, "5\n0\n")
	// Something else than a file in its place is as none.
	if err := os.Mkdir(b.lower+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(b.lower+"/etc/passwd", 0o644); err != nil {
		t.Fatal(err)
	}
	b.want(b.spec("echo", "ok"), "ok\n")
}

const status = "while read k v; do case $k in Cap*|NoNewPrivs:|Seccomp:) echo $k $v;; esac; done </proc/self/status"

// Docker's capabilities: 14 of them, for root only.
func TestCapabilities(t *testing.T) {
	b := newBox(t)
	if userns.Single() {
		t.Skip("the filter for one user needs no_new_privs")
	}
	const docker = "00000000a80425fb"
	none := strings.Repeat("0", 16)
	b.want(b.sh(status), fmt.Sprintf("CapInh: %s\nCapPrm: %s\nCapEff: %s\nCapBnd: %s\nCapAmb: %s\nNoNewPrivs: 0\nSeccomp: 2\n", none, docker, docker, docker, none))
	s := b.sh(status)
	s.User = "1000"
	b.want(s, fmt.Sprintf("CapInh: %s\nCapPrm: %s\nCapEff: %s\nCapBnd: %s\nCapAmb: %s\nNoNewPrivs: 0\nSeccomp: 2\n", none, none, none, docker, none))
	own, err := pid1.OwnCaps()
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%016x", uint64(own))
	for _, user := range []string{"", "1000"} {
		s = b.sh(status)
		s.Insecure, s.User = true, user
		b.want(s, fmt.Sprintf("CapInh: %s\nCapPrm: %s\nCapEff: %s\nCapBnd: %s\nCapAmb: %s\nNoNewPrivs: 0\nSeccomp: 0\n", all, all, all, all, all))
	}
}

func TestUlimit(t *testing.T) {
	b := newBox(t)
	var own syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if own.Max < 100 {
		t.Skip("too few files")
	}
	s := b.sh("ulimit -n; ulimit -Hn; ulimit -c")
	s.Ulimits = []Ulimit{{"nofile", 64, 99}, {"core", 0, 0}, {"as", 1 << 28, 1 << 28}}
	b.want(s, "64\n99\n0\n")
	s = b.sh("true")
	s.Ulimits = []Ulimit{{"nonsense", 1, 1}}
	if _, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), `"nonsense" is not known`) {
		t.Fatalf("got %v", err)
	}
	s = b.sh("true")
	s.Ulimits = []Ulimit{{"nofile", 2, 1}}
	if _, _, err := b.run(s); err == nil || !strings.Contains(err.Error(), "above the hard limit") {
		t.Fatalf("got %v", err)
	}
}

// The Go runtime raises the limit of open files for itself, not for commands.
func TestOriginalFiles(t *testing.T) {
	b := newBox(t)
	in := exec1(t, "sh", "-c", "ulimit -Sn 500; exec \"$0\" -test.run '^TestPrintFiles$'", self1(t))
	in.Env = append(os.Environ(), "SANDBOX_ROOT="+b.lower)
	out, err := in.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "limit 500\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPrintFiles(t *testing.T) {
	root := os.Getenv("SANDBOX_ROOT")
	if root == "" {
		t.Skip("a part of TestOriginalFiles")
	}
	b := &box{t: t, lower: root}
	b.want(b.sh("echo limit $(ulimit -n)"), "limit 500\n")
	fmt.Println("limit 500")
}

func TestUmaskAndSignals(t *testing.T) {
	b := newBox(t)
	b.want(b.sh("umask"), "0022\n")
	b.want(b.spec("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n")
	b.want(b.sh("ls /proc/self/fd | head -n 3"), "0\n1\n2\n")
	// A program of our own: no shell opens anything.
	b.want(b.spec("ls", "/proc/self/fd"), "0\n1\n2\n3\n")
}
