package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/network"
	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers/hint"
)

// What this file holds: a command uses the network of this machine, and is not in
// its namespace.

// shared reports whether commands share this process's network namespace, where
// the kernel leaves nothing else.
func shared() bool {
	return privateNetwork() != nil
}

// private reports whether a command has a broker.
func private(s Spec) bool { return s.usesBroker() && !shared() }

// accept answers TCP connections to a port of this machine.
func accept(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func TestNetwork(t *testing.T) {
	b := newBox(t)
	s := b.sh("ls /sys/class/net /proc/sys/net/ipv4/conf | sort; ip -o addr show dev lo | head -n1 | awk '{print $4}'")
	s.Network = NetNone
	b.want(s, "\n/proc/sys/net/ipv4/conf:\n/sys/class/net:\nall\ndefault\nlo\nlo\n127.0.0.1/8\n")
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	interfaces, err := exec.Command("busybox", "ip", "-o", "link").Output()
	if err != nil {
		t.Fatal(err)
	}
	port := accept(t)
	for _, mode := range []NetMode{NetHost, NetDefault} {
		for _, insecure := range []bool{false, true} {
			same := "0"
			if mode == NetDefault && !insecure && !shared() {
				same = "1"
			}
			s = b.sh(fmt.Sprintf("test $(readlink /proc/self/ns/net) = '%s'; echo $?; ip -o link; busybox nc 127.0.0.1 %d </dev/null && echo connected; ls /sys/class/net", host, port))
			s.Network, s.Insecure = mode, insecure
			names, err := exec.Command("ls", "/sys/class/net").Output()
			if err != nil {
				t.Fatal(err)
			}
			b.want(s, same+"\n"+string(interfaces)+"connected\n"+string(names))
		}
	}
}

// Sockets of the internet are made in this machine's network, as they were asked
// for; a user's and those of a 32-bit program too.
func TestSocketKinds(t *testing.T) {
	b := newProbe(t)
	port := accept(t)
	socketcall, highBits := "ok", "ok"
	if shared() {
		highBits = "EPERM" // Docker's profile compares all bits
	}
	if shared() && ownsNetwork() {
		socketcall = "ENOSYS"
	}
	for _, user := range []string{"", "1000"} {
		s := b.spec("probe", "kinds", fmt.Sprint(port))
		s.User = user
		b.want(s, strings.ReplaceAll(strings.ReplaceAll(`tcp: ok
udp: ok
tcp6: ok
socketcall: SOCKETCALL
socketcall for another: SOCKETCALL
high bits: HIGH
flags: 1 1
no flags: 0 0
unknown protocol: EPROTONOSUPPORT
unknown flag: EINVAL
too many: EMFILE
`, "SOCKETCALL", socketcall), "HIGH", highBits))
	}
}

// A socket is its caller's: with a port of another user, whose sockets share it, it
// takes no connections.
func TestSocketOwner(t *testing.T) {
	b := newProbe(t)
	share := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(cerr, err)
	}}
	l, err := share.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	b.want(b.spec("probe", "share", port), "share: ok\n")
	foreign := "share: EADDRINUSE\n"
	if userns.Single() {
		foreign = "share: ok\n" // that one has another name only
	}
	s := b.spec("probe", "share", port)
	s.User = "1000"
	b.want(s, foreign)
	b.want(b.spec("probe", "share-as", port, "1000"), foreign)
}

// /proc shows the network of every thread there is, so none is in that of this
// machine.
func TestNoThreadOutside(t *testing.T) {
	if shared() {
		t.Skip("this kernel lets commands have no network but its own")
	}
	b := newBox(t)
	name := abstract(t)
	b.want(b.sh(fmt.Sprintf(`set -- /proc/1/task/*; [ $# -gt 1 ] && echo threads; cat /proc/[0-9]*/task/*/net/unix 2>/dev/null | grep -c '%s'; true`, name)), "threads\n0\n")
}

// Every call gets its own socket, though signals interrupt it and processes end
// while they wait; on kernels on which a signal interrupts a call that is being
// answered (before Linux 5.19), too.
func TestManySockets(t *testing.T) {
	b := newProbe(t)
	b.want(b.spec("probe", "many"), "bad: 0\n")
	if shared() {
		return
	}
	eachIdle(func(ns *network.Namespace) {
		flags := ns.FilterFlags
		ns.FilterFlags = 0
		t.Cleanup(func() { ns.FilterFlags = flags })
	})
	b.want(b.spec("probe", "many"), "bad: 0\n")
}

// eachIdle calls f with every namespace for the next commands.
func eachIdle(f func(*network.Namespace)) {
	for range len(idle) {
		ns := <-idle
		f(ns)
		idle <- ns
	}
}

// Nor does it matter that this process is stopped on the way, as by Ctrl-Z.
func TestStopped(t *testing.T) {
	b := newProbe(t)
	shared() // makes one
	eachIdle(func(ns *network.Namespace) {
		if ns.FilterFlags == 0 {
			t.Skip("before Linux 5.19 it does")
		}
	})
	s := b.spec("probe", "many")
	stops := exec.Command("busybox", "sh", "-c", "for i in $(busybox seq 300); do kill -STOP $PPID; kill -CONT $PPID; busybox usleep 300; done")
	if err := stops.Start(); err != nil {
		t.Fatal(err)
	}
	b.want(s, "bad: 0\n")
	if err := stops.Wait(); err != nil { // not killed: it might have stopped us
		t.Error(err)
	}
}

// When this process cannot open the file, the step fails and says so: the command
// cannot know why it got no socket, and may take another path.
func TestTooManyFiles(t *testing.T) {
	b := newProbe(t)
	if shared() {
		t.Skip("commands make their sockets themselves")
	}
	dir := t.TempDir()
	var fifos [2]*os.File
	for i, name := range []string{"says", "hears"} {
		file := filepath.Join(dir, name)
		if err := unix.Mkfifo(file, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fifos[i] = f
	}
	s := b.sh("probe raw >/dev/null; echo >/s/says; read x </s/hears; probe raw | tail -n1; echo >/s/says; read x </s/hears")
	s.Mounts = []Mount{{Type: MountBind, Dest: "/s", Source: dir}}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for _, limit := range []unix.Rlimit{{Cur: 3, Max: own.Max}, own} {
			_, err := fifos[0].Read(make([]byte, 1))
			if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
				done <- err
				return
			}
			fmt.Fprintln(fifos[1])
		}
		done <- nil
	}()
	out, _, err := b.run(s)
	if derr := <-done; derr != nil {
		t.Fatal(derr)
	}
	if out != "stream: EMFILE\n" || !errors.Is(err, unix.EMFILE) {
		t.Errorf("%q, %v", out, err)
	}
}

// Name servers with link-local addresses are found by the numbers of interfaces.
func TestNumberedInterfaces(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	const conf = "# fe80::1%lo\nnameserver fe80::1%lo\n  nameserver\tfe80::2%lo # lo\nnameserver fe80::1%no-such\nnameserver fe80::1%\nnameserver 10.0.0.1\nnameserver\nsearch fe80::1%lo"
	want := strings.NewReplacer("er fe80::1%lo", fmt.Sprintf("er fe80::1%%%d", lo.Index), "2%lo", fmt.Sprintf("2%%%d", lo.Index)).Replace(conf)
	if got := string(numberedInterfaces([]byte(conf))); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}

func FuzzNumberedInterfaces(f *testing.F) {
	f.Add([]byte("nameserver fe80::1%lo\n"))
	f.Fuzz(func(t *testing.T, conf []byte) {
		once := numberedInterfaces(conf)
		if bytes.Count(once, []byte("\n")) != bytes.Count(conf, []byte("\n")) {
			t.Errorf("%q has other lines: %q", conf, once)
		}
		if !bytes.Contains(conf, []byte("%")) && !bytes.Equal(once, conf) {
			t.Errorf("%q became %q", conf, once)
		}
	})
}

// abstract listens on abstract sockets, for streams and for datagrams.
func abstract(t *testing.T) (name string) {
	t.Helper()
	name = fmt.Sprintf("@sinter-test-%d-%s", os.Getpid(), filepath.Base(t.TempDir()))
	stream, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	datagram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name + "-d", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { datagram.Close() })
	return name
}

// Abstract sockets belong to the network namespace. Those of others are out of reach,
// as is theirs where the command was given the host's network.
func TestAbstractSockets(t *testing.T) {
	b := newProbe(t)
	name := abstract(t)
	script := fmt.Sprintf("probe connect %s; probe connect %s-d", name, name)
	for _, network := range []NetMode{NetDefault, NetHost, NetNone} {
		for _, insecure := range []bool{false, true} {
			s := b.sh(script)
			s.Network, s.Insecure = network, insecure
			refused := "ECONNREFUSED"
			if network != NetNone && !private(s) {
				if !canScope() {
					continue
				}
				refused = "EPERM"
			}
			// No socket of the other kind has this name.
			b.want(s, fmt.Sprintf("stream: %[1]s\ndatagram: ECONNREFUSED\nstream: ECONNREFUSED\ndatagram: %[1]s\n", refused))
		}
	}
}

// listener is a command that listens on abstract sockets, and where it says so.
func listener(t *testing.T, b *box) (*net.UnixListener, Spec) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := b.spec("probe", "listen", "@sinter-listens", "/s/s")
	s.Mounts = []Mount{{Type: MountBind, Dest: "/s", Source: dir}}
	return l, s
}

// listening waits until that command listens, and returns the name that the kernel
// gave it. The command ends with end.
func listening(l *net.UnixListener) (name string, end func(), err error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return "", func() {}, err
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	return string(buf[:n]), func() { c.Close() }, err
}

// Nor do others reach those that a command listens on, through which they could give
// it a directory of the host.
func TestCommandListens(t *testing.T) {
	b := newProbe(t)
	if shared() {
		t.Skip("this kernel lets commands have no network but its own")
	}
	l, s := listener(t, b)
	reached := make(chan error, 1)
	go func() {
		name, end, err := listening(l)
		defer end()
		for _, at := range []net.UnixAddr{
			{Name: "@sinter-listens", Net: "unix"}, {Name: "@tinter-listens", Net: "unixgram"}, {Name: "@" + name, Net: "unix"},
		} {
			other, derr := net.DialUnix(at.Net, nil, &at)
			if derr == nil {
				other.Close()
				err = errors.Join(err, fmt.Errorf("the command was reached at %q", at.Name))
			} else if !errors.Is(derr, unix.ECONNREFUSED) {
				err = errors.Join(err, derr)
			}
		}
		reached <- err
	}()
	b.want(s, "listened: ok\n")
	l.Close()
	if err := <-reached; err != nil {
		t.Error(err)
	}
}

// Two commands at once do not reach each other by abstract sockets, and each has the
// names to itself.
func TestCommandsListen(t *testing.T) {
	b := newProbe(t)
	if shared() {
		t.Skip("this kernel lets commands have no network but its own")
	}
	var ends []func()
	done := make(chan error)
	for range 2 {
		l, s := listener(t, b)
		go func() {
			out, _, err := b.run(s)
			if err == nil && out != "listened: ok\n" {
				err = errors.New(out)
			}
			l.Close()
			done <- err
		}()
		_, end, err := listening(l)
		if err != nil {
			t.Error(err) // the command's own error tells more
		}
		ends = append(ends, end)
	}
	b.want(b.spec("probe", "connect", "@sinter-listens"), "stream: ECONNREFUSED\ndatagram: ECONNREFUSED\n")
	for _, end := range ends {
		end()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Nor does a process outside that was given a socket of one command reach the next.
func TestSocketGivenAway(t *testing.T) {
	b, k := newProbe(t), newTaker(t)
	if shared() {
		t.Skip("this kernel lets commands have no network but its own")
	}
	for range len(idle) - 1 { // so that both would be in the same namespace
		ns := <-idle
		defer giveBack(ns)
	}
	s := b.spec("probe", "give-socket", "/s/s")
	s.Mounts = k.mount()
	b.want(s, "give: ok\n")
	given := k.given(t)
	l, s := listener(t, b)
	reached := make(chan error, 1)
	go func() {
		_, end, err := listening(l)
		defer end()
		if err != nil {
			reached <- err
			return
		}
		reached <- unix.Connect(int(given.Fd()), &unix.SockaddrUnix{Name: "@sinter-listens"})
	}()
	b.want(s, "listened: ok\n")
	l.Close()
	if err := <-reached; !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the command was reached: %v", err)
	}
}

// Where no more namespaces can be made, a command waits for that of another.
func TestNamespacesUsedUp(t *testing.T) {
	b := newBox(t)
	const limit = "/proc/sys/user/max_net_namespaces" // of this user namespace
	if !userns.Inside() || shared() {
		t.Skip("the limit would be the machine's")
	}
	before, err := os.ReadFile(limit)
	if err != nil {
		t.Fatal(err)
	}
	set := func(value []byte) {
		if err := os.WriteFile(limit, value, 0); err != nil {
			t.Error(err)
		}
	}
	set([]byte("0"))
	defer set(before)
	var held []*network.Namespace
	for range len(idle) {
		held = append(held, <-idle)
	}
	giveBack(held[0])
	done := make(chan error)
	for range 3 {
		s := b.sh("sleep 0.1")
		go func() {
			_, err := Run(t.Context(), s)
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	<-idle
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	s := b.sh("true")
	if _, err := takeNamespace(ctx, &s); !errors.Is(err, stopped) || !strings.Contains(err.Error(), "max_net_namespaces") {
		t.Errorf("got %v", err)
	}
	// One that is left with sockets is not used again, also when it was the last.
	held[0].Left = true
	giveBack(held[0])
	for range 2 {
		var advice *hint.Error
		if _, _, err := b.run(b.sh("true")); err == nil || !strings.Contains(err.Error(), "max_net_namespaces") || !errors.As(err, &advice) {
			t.Errorf("got %v", err)
		}
	}
	set(before)
	b.want(b.sh("true"), "")
	for _, ns := range held[1:] {
		giveBack(ns)
	}
}

// A kernel without Landlock, or one on which a filter denies it, runs commands all
// the same.
func TestWithoutScopes(t *testing.T) {
	b := newBox(t)
	if userns.Inside() {
		t.Skip("a filter needs root, or no_new_privs")
	}
	s := b.sh("echo ran")
	var scoped bool
	done := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked: the filter ends with the thread
		if err := deny(unix.SYS_LANDLOCK_CREATE_RULESET, unix.ENOSYS); err != nil {
			done <- err.Error()
			return
		}
		scoped = pid1.CanScope()
		out, _, err := b.run(s)
		done <- fmt.Sprint(out, err)
	}()
	if got := <-done; got != "ran\n<nil>" || scoped {
		t.Errorf("%s, scopes %v", got, scoped)
	}
}

// deny makes a system call fail for this thread and what it starts.
func deny(call uint32, with unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(with)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}

// Containers of podman may do all that a command needs but set a host name.
func TestHostNameForbidden(t *testing.T) {
	b := newProbe(t)
	if userns.Inside() {
		t.Skip("a filter needs root, or no_new_privs")
	}
	s := b.sh("hostname")
	s.Hostname, s.Network = "other", NetNone // a namespace with a broker has a thread of its own
	done := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked: the filter ends with the thread
		if err := deny(unix.SYS_SETHOSTNAME, unix.EPERM); err != nil {
			done <- err.Error()
			return
		}
		var out strings.Builder
		s.Stdout = &out
		res, err := Run(t.Context(), s)
		done <- fmt.Sprint(out.String(), res.OtherHostname, err)
	}()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := <-done, name+"\ntrue <nil>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// No command reads what the host sends and receives. In a network of its own it may
// have such sockets.
func TestRawSockets(t *testing.T) {
	b := newProbe(t)
	for _, mode := range []NetMode{NetDefault, NetHost, NetNone} {
		s := b.spec("probe", "raw")
		s.Network = mode
		raw := "ok"
		if mode != NetNone && !private(s) {
			raw = "EPERM"
		}
		b.want(s, strings.ReplaceAll("packet: RAW\nraw: RAW\nstream: ok\n", "RAW", raw))
	}
}

// Of nested seccomp filters one can have a listener. Where another program has it,
// commands share the network namespace, and a build is told.
func TestListenerOutside(t *testing.T) {
	newProbe(t)
	if userns.Inside() {
		t.Skip("a part of TestRootless is enough")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the filter ends with the thread
		allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
		program := unix.SockFprog{Len: 1, Filter: &allow}
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
		if errno != 0 && errno != unix.EBUSY {
			done <- errno
			return
		}
		cmd := exec1(t, self1(t), "-test.v", "-test.run", "^(TestNetwork|TestSocketKinds|TestManySockets|TestAbstractSockets|TestRawSockets|TestExposed)$")
		cmd.Env = append(os.Environ(), listenerEnv+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestExposed") {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// listenerEnv says that a program outside has the listener.
const listenerEnv = "SANDBOX_LISTENER_OUTSIDE"

func TestExposed(t *testing.T) {
	newBox(t)
	want := ""
	if os.Getenv(listenerEnv) != "" {
		want = "answering its calls of socket(2): another program around sinter answers system calls already"
	} else if shared() {
		t.Skip("this kernel cannot do it")
	}
	got := ""
	if err := Exposed(Spec{}); err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if err := Exposed(Spec{Network: NetNone}); err != nil {
		t.Error(err)
	}
	for _, s := range []Spec{{Network: NetHost}, {Insecure: true}} {
		if err := Exposed(s); (err == nil) != canScope() {
			t.Errorf("%+v: %v, scopes: %v", s, err, canScope())
		}
	}
}
