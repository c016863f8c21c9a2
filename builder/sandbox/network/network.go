// Package network keeps commands out of this process's network namespace, and
// lets them use its network all the same.
//
// A network namespace has more than a network: abstract Unix sockets, through
// which programs of the machine and a command would reach each other and pass on
// open directories, and raw access to the traffic of the machine. So commands get
// a namespace of their own, with nothing in it. What they need of the network are
// sockets of the internet, and netlink sockets that show interfaces: a
// seccomp filter stops those calls of socket(2), and a Broker in this process,
// which is in the network that is meant, makes the socket and puts it into the
// command's table of open files. The arguments are numbers, so a command cannot
// change them after they were looked at.
package network

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/layers/hint"
)

// Namespace is a network namespace for commands, with a loopback interface.
type Namespace struct {
	file *os.File
	// Outer is the one that this process is in.
	Outer *os.File
	// FilterFlags are those to load a filter with whose listener is a Broker's.
	FilterFlags uint32
	// Left says that sockets of the namespace were open when Do returned.
	Left bool
}

// New makes a namespace, and tries what a Broker needs: Linux 5.14, and no process
// around this one that answers system calls itself (of nested seccomp filters the
// kernel lets one have a listener). The error is a reason to do without.
func New() (*Namespace, error) {
	type result struct {
		ns  *Namespace
		err error
	}
	done := make(chan result)
	go onOwnThread(func() {
		ns, err := open()
		done <- result{ns, err}
	})
	r := <-done
	return r.ns, r.err
}

// onOwnThread calls f on a thread that ends with it, and that is not the first one:
// that one cannot end, and stands for the process in /proc.
func onOwnThread(f func()) {
	runtime.LockOSThread() // and never unlocked, which ends the thread
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() { // on another thread, since this one is locked
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
	runtime.UnlockOSThread()
}

// open changes this thread.
func open() (*Namespace, error) {
	err := unix.Unshare(unix.CLONE_NEWNET)
	if errors.Is(err, unix.ENOSPC) {
		return nil, hint.Add(
			errors.New("making a network namespace: there are as many as sysctl user.max_net_namespaces allows"),
			"raise that limit, or run fewer builds at the same time",
		)
	}
	if err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	if err := pid1.LoopbackUp(); err != nil {
		return nil, err
	}
	flags, err := tryListener()
	if err != nil {
		return nil, fmt.Errorf("answering its calls of socket(2): %w", err)
	}
	ns := &Namespace{FilterFlags: flags}
	if ns.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, err
	}
	if ns.Outer, err = os.Open("/proc/self/ns/net"); err != nil {
		ns.file.Close()
		return nil, err
	}
	return ns, nil
}

// Do calls f in the namespace: a process that it starts has no thread outside. Its
// thread ends with it.
func (ns *Namespace) Do(f func()) error {
	done := make(chan error)
	go onOwnThread(func() {
		err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			done <- fmt.Errorf("entering the network namespace: %w", err)
			return
		}
		f()
		ns.Left = socketsLeft()
		done <- nil
	})
	return <-done
}

// socketsLeft reports whether anybody has a socket of this thread's network
// namespace open, or may have.
func socketsLeft() bool {
	data, err := os.ReadFile("/proc/thread-self/net/sockstat")
	return err != nil || !bytes.HasPrefix(data, []byte("sockets: used 0\n"))
}

// Close frees a namespace.
func (ns *Namespace) Close() error { return errors.Join(ns.file.Close(), ns.Outer.Close()) }

// tryListener loads a filter with a listener on this thread, and returns the flags
// that the kernel takes for one.
func tryListener() (uint32, error) {
	if err := checkSizes(); err != nil {
		return 0, err
	}
	// A signal does not interrupt a call that is being answered (Linux 5.19).
	// Without that flag the call starts again.
	flags := uint32(unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	listener, err := loadListener(flags)
	if errors.Is(err, unix.EINVAL) {
		flags = 0
		listener, err = loadListener(flags)
	}
	if errors.Is(err, unix.EBUSY) {
		return 0, errors.New("another program around sinter answers system calls already")
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(listener)
	// Nothing waits for an answer; a kernel that does not know the flag says so
	// before it looks.
	err = sendFile(listener, &addFD{file: uint32(listener)})
	if errors.Is(err, unix.ENOENT) {
		return flags, nil
	}
	return 0, errors.New("that takes Linux 5.14 or later")
}

func loadListener(flags uint32) (int, error) {
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	program := unix.SockFprog{Len: 1, Filter: &allow}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		uintptr(flags)|unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
