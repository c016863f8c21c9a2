package sandbox

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers/hint"
)

// What this file holds: a command reaches nothing outside of its sandbox, and
// gives nothing of it away. Most of it is tried by a small program in C.

//go:embed testdata/probe.c
var probeSource string

var probeProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sinter-probe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "probe")
	cmd := exec.Command("gcc", "-static", "-O1", "-x", "c", "-o", out, "-")
	cmd.Stdin = strings.NewReader(probeSource)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

// newProbe is a box whose root has the probe.
func newProbe(t *testing.T) *box {
	t.Helper()
	b := newBox(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed")
	}
	program, err := probeProgram()
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.lower, map[string]string{"bin/probe": string(program)})
	return b
}

// inherited opens a directory as a shell does that starts the builder with
// "77<DIR": the file stays open in every program that is started.
func inherited(t *testing.T, dir string) int {
	t.Helper()
	const fd = 77
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Dup2(int(f.Fd()), fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// openFiles are the numbers that files of the builder's or of the init's may have.
func openFiles(inherited int) []int {
	numbers := []int{inherited}
	for fd := 3; fd < 16; fd++ {
		numbers = append(numbers, fd)
	}
	return numbers
}

// No open file of the builder's leads a working directory out of the root.
func TestWorkingDirectoryStaysInside(t *testing.T) {
	b := newBox(t)
	outside := t.TempDir()
	write(t, outside, map[string]string{"secret": "the host's\n"})
	last := inherited(t, outside)
	cwds := []string{"/proc/self/cwd", "/proc/1/cwd", "/proc/self/root", "/proc/thread-self/fd/9"}
	for _, fd := range openFiles(last) {
		cwds = append(cwds, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	up := strings.Repeat("../", 40)
	for _, cwd := range cwds {
		s := b.sh("cat secret " + up + outside + "/secret")
		s.Cwd = cwd
		out, _, err := b.run(s)
		if err == nil || strings.Contains(out, "the host's") {
			t.Errorf("%s: %v\n%s", cwd, err, out)
		}
		s = b.sh("pwd")
		write(t, s.Upper, map[string]string{"x/": ""})
		if err := os.Symlink(cwd, filepath.Join(s.Upper, "x/link")); err != nil {
			t.Fatal(err)
		}
		s.Cwd = "/x/link"
		if out, _, err := b.run(s); err == nil {
			t.Errorf("a symlink to %s: %s", cwd, out)
		}
	}
}

// Nor does one lead to a program outside of the root.
func TestProgramStaysInside(t *testing.T) {
	b := newBox(t)
	outside := t.TempDir()
	busybox, err := os.ReadFile(filepath.Join(b.lower, "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, outside, map[string]string{"printf": string(busybox)})
	last := inherited(t, outside)
	for _, fd := range openFiles(last) {
		dir := fmt.Sprintf("/proc/self/fd/%d", fd)
		for _, name := range []string{dir + "/printf", dir + "/" + strings.Repeat("../", 40) + outside + "/printf"} {
			out, _, err := b.run(b.spec(name, "ran"))
			if err == nil || strings.Contains(out, "ran") {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			s := b.spec("printf", "ran")
			s.Env = []string{"PATH=" + filepath.Dir(name)}
			if out, _, err := b.run(s); err == nil {
				t.Errorf("%s in PATH: %s", name, out)
			}
		}
	}
}

// A command has three open files, and its init little more: pipes, and the root.
func TestOpenFiles(t *testing.T) {
	b := newProbe(t)
	inherited(t, t.TempDir())
	b.want(b.spec("probe", "inherited"), "")
	// The pipe by which the init learns that the command has started may be closed
	// by the time that its link is read.
	s := b.sh("for f in /proc/1/fd/*; do readlink $f; done 2>/dev/null; true")
	s.Insecure = true
	out, _, err := b.run(s)
	if err != nil || !strings.Contains(out, "pipe:") {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, file := range strings.Fields(out) {
		if file != "/" && !strings.HasPrefix(file, "pipe:") {
			t.Errorf("the init has %q open:\n%s", file, out)
		}
	}
}

// A FIFO, a device, a socket or a file of the kernel where a base has its users' names is as none.
func TestUserFilesAreFiles(t *testing.T) {
	b := newBox(t)
	places := map[string]func(file string) error{
		"FIFO":               func(file string) error { return unix.Mkfifo(file, 0o666) },
		"socket":             func(file string) error { return unix.Mknod(file, unix.S_IFSOCK|0o666, 0) },
		"device":             func(file string) error { return unix.Mknod(file, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"file of the kernel": func(file string) error { return os.Symlink("/proc/1/environ", file) },
		"log of the kernel":  func(file string) error { return os.Symlink("/proc/kmsg", file) },
	}
	for _, name := range []string{"passwd", "group"} {
		file := filepath.Join(b.lower, "etc", name)
		for what, place := range places {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			err := place(file)
			if errors.Is(err, unix.EPERM) && what == "device" {
				write(t, b.lower, map[string]string{"etc/" + name: ""})
				continue // devices cannot be made here
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, insecure := range []bool{false, true} {
				s := b.sh("echo $HOME")
				s.User, s.Insecure = "0", insecure
				b.want(s, "/\n")
			}
		}
	}
}

// A mount goes nowhere in /proc, whatever leads there.
func TestMountsStayOutOfProc(t *testing.T) {
	b := newBox(t)
	for link, target := range map[string]string{"p": "/proc", "q": "/proc/self", "r": "/proc/sys/kernel"} {
		if err := os.Symlink(target, filepath.Join(b.lower, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dest := range []string{"/p", "/p/sys", "/q/attr", "/q", "/r", "/x/../p/sys"} {
		for _, m := range []Mount{{Type: MountTmpfs, Dest: dest}, {Type: MountBind, Dest: dest, Source: t.TempDir()}} {
			s := b.sh("true")
			s.Mounts = []Mount{m}
			var h *hint.Error
			if _, _, err := b.run(s); !errors.As(err, &h) || !strings.Contains(err.Error(), "nothing can be mounted there") {
				t.Errorf("%s at %s: %v", m.Type, dest, err)
			}
		}
	}
}

// The session keyring of the person who builds is not the command's, which is
// allowed to look only with all privileges.
func TestSessionKeyring(t *testing.T) {
	b := newProbe(t)
	s := b.spec("probe", "key", "sinter-test")
	s.Insecure = true
	var out string
	done := make(chan error)
	// A session keyring is its thread's.
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		if _, err := unix.KeyctlJoinSessionKeyring("sinter-test"); err != nil {
			done <- err
			return
		}
		if _, err := unix.AddKey("user", "sinter-test", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
			done <- err
			return
		}
		var err error
		out, _, err = b.run(s)
		done <- err
	}()
	err := <-done
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip("no keyrings here: ", err)
	}
	if err != nil || out != "key: ENOKEY\n" {
		t.Fatalf("%v: %s", err, out)
	}
}

// A command may send its init any signal: the init goes on, and says nothing.
func TestSignalsToTheInit(t *testing.T) {
	b := newBox(t)
	for _, insecure := range []bool{false, true} {
		s := b.sh(`trap '' HUP INT QUIT USR1 USR2 PIPE TERM
i=1; while [ $i -le 64 ]; do [ $i = 32 ] || [ $i = 33 ] || kill -$i 1; i=$((i+1)); done 2>/dev/null
sleep 0.1; echo alive`)
		s.Insecure = insecure
		b.want(s, "alive\n")
	}
}

// A command that does not catch a signal lives on when the init gets it, as if it
// were the first process itself; one that catches it gets it.
func TestSignalsThatAreNotCaught(t *testing.T) {
	b := newBox(t)
	b.fail(b.sh("for s in HUP QUIT USR2 PIPE TERM; do kill -$s 1; done; trap 'exit 3' USR1; kill -USR1 1; sleep 10 & wait"), 3, "exit code: 3")
}

// taker is a process outside that takes an open file from the command: it
// listens in a directory that the command has mounted.
type taker struct {
	dir   string
	taken chan *os.File
}

func newTaker(t *testing.T) *taker {
	t.Helper()
	k := &taker{dir: t.TempDir(), taken: make(chan *os.File, 1)}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(k.dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		defer close(k.taken)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		oob := make([]byte, 64)
		_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), oob)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) == 0 {
			return
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) == 0 {
			return
		}
		k.taken <- os.NewFile(uintptr(fds[0]), "taken")
		_, _ = c.Write([]byte{0})
	}()
	return k
}

// given is what was taken.
func (k *taker) given(t *testing.T) *os.File {
	t.Helper()
	f := <-k.taken
	if f == nil {
		t.Fatal("nothing was given away")
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (k *taker) mount() []Mount { return []Mount{{Type: MountBind, Dest: "/s", Source: k.dir}} }

// A step ends with its command, though another process has its output open.
func TestOutputGivenAway(t *testing.T) {
	b, k := newProbe(t), newTaker(t)
	s := b.sh("head -c 50000 /dev/zero | tr '\\0' x; echo; probe give-output /s/s; echo end")
	s.Mounts = k.mount()
	out, _, err := b.run(s)
	if err != nil || out != strings.Repeat("x", 50000)+"\ngive: ok\nend\n" {
		t.Fatalf("%v: %d bytes, %q at the end", err, len(out), out[max(0, len(out)-30):])
	}
	k.given(t)
}

// What a command wrote does not change after its end, though another process has
// its root open.
func TestRootGivenAway(t *testing.T) {
	b, k := newProbe(t), newTaker(t)
	s := b.sh("umask 0; chmod 777 /; probe give-root /s/s")
	s.Mounts = k.mount()
	b.want(s, "give: ok\n")
	root := k.given(t)
	fd, err := unix.Openat(int(root.Fd()), "later", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	if err != unix.EROFS {
		t.Errorf("a file was made in the root after the command: %d, %v", fd, err)
	}
	if got := b.left(); slices.Contains(got, "later") {
		t.Errorf("the layer has %q", got)
	}
}

// Nor is a step good while another process can write to one of its files.
func TestFileGivenAway(t *testing.T) {
	b, k := newProbe(t), newTaker(t)
	s := b.spec("probe", "give-file", "/s/s")
	s.Mounts = k.mount()
	out, _, err := b.run(s)
	var h *hint.Error
	if !errors.As(err, &h) || !strings.Contains(err.Error(), "still has one of its files open") {
		t.Errorf("%v: %s", err, out)
	}
	k.given(t)
}

// A step that fails has its own exit code, whatever it leaves behind.
func TestFailedStepGivesAFileAway(t *testing.T) {
	b, k := newProbe(t), newTaker(t)
	s := b.sh("probe give-file /s/s; exit 7")
	s.Mounts = k.mount()
	b.fail(s, 7, "exit code: 7")
	if f := <-k.taken; f != nil {
		f.Close()
	}
}

// A privileged command may leave an image mounted that is one of its own files.
func TestLeftMounted(t *testing.T) {
	b := newBox(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil || userns.Inside() {
		t.Skip("no loop devices here")
	}
	s := b.sh("cd /tmp && mkdir m 'm x' && dd if=/dev/zero of=disk bs=64k count=16 2>/dev/null && busybox mke2fs -F disk >/dev/null && busybox mount -t ext2 -o loop disk m && echo x >m/f && busybox mount -t tmpfs x 'm x'")
	s.Insecure = true
	b.want(s, "")
}

// Of the host's devices, a command changes no owner, mode or time. It writes to
// them.
func TestDevicesOfTheHost(t *testing.T) {
	b := newBox(t)
	state := func() (all string) {
		for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
			var st unix.Stat_t
			if err := unix.Stat("/dev/"+name, &st); err != nil {
				t.Fatal(err)
			}
			all += fmt.Sprintf("%s %o %d:%d %v\n", name, st.Mode, st.Uid, st.Gid, st.Mtim)
		}
		return all
	}
	before := state()
	s := b.sh("for d in null zero full random urandom tty; do chmod 600 /dev/$d; chown 1:1 /dev/$d; touch -t 200001010000 /dev/$d; done 2>/dev/null; echo x >/dev/null && head -c 2 /dev/zero | wc -c")
	b.want(s, "2\n")
	if after := state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if !userns.Inside() {
		return
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		out, _, err := b.run(b.sh("grep ' /dev/" + name + " ' /proc/mounts"))
		if err != nil {
			t.Fatal(err, out)
		}
		options := strings.Split(strings.Fields(out)[3], ",")
		for _, want := range []string{"ro", "nosuid", "noexec"} {
			if !slices.Contains(options, want) {
				t.Errorf("%s is mounted %s, without %s", name, options, want)
			}
		}
	}
}

// Where a container around hides parts of its /proc, a command sees that one, with
// the container's processes. It can change nothing of them.
func TestOuterProc(t *testing.T) {
	b := newBox(t)
	if os.Getenv(outerProcEnv) == "" {
		t.Skip("a part of TestRootless")
	}
	pid := os.Getpid()
	s := b.sh(fmt.Sprintf("id -u; test -e /proc/%[1]d && for f in %[1]d/oom_score_adj %[1]d/coredump_filter self/oom_score_adj sys/kernel/hostname; do (echo 31 >/proc/$f) 2>/dev/null && echo wrote $f; done; true", pid))
	s.User = "1000"
	b.want(s, "1000\n")
	b.want(b.sh(fmt.Sprintf("test -e /proc/%d && echo outer", pid)), "outer\n")
}

// outerProcEnv says that parts of /proc are hidden from this process.
const outerProcEnv = "SANDBOX_OUTER_PROC"

// A device that a command is given is the host's as well.
func TestGivenDevice(t *testing.T) {
	b := newBox(t)
	if userns.Inside() {
		t.Skip("devices cannot be made here")
	}
	node := filepath.Join(t.TempDir(), "node")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	s := b.sh("chmod 600 /dev/given 2>/dev/null || echo refused; head -c 3 /dev/given | wc -c; echo x >/dev/given && echo written")
	s.Mounts = []Mount{{Type: MountDevice, Dest: "/dev/given", Source: node}}
	b.want(s, "refused\n3\nwritten\n")
}
