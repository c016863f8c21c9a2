package network

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A broker ends with its init, whatever that did.
func TestBrokerEnds(t *testing.T) {
	var none *Broker
	none.Start()
	if err := none.Close(); err != nil {
		t.Error(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	for name, tt := range map[string]struct {
		init func(t *testing.T, socket int)
		err  string
	}{
		"nothing":       {func(*testing.T, int) {}, ""},
		"no listener":   {send([]byte("x"), nil), "the message has none"},
		"another file":  {send([]byte("x"), unix.UnixRights(fd)), "inappropriate ioctl"},
		"several files": {send([]byte("x"), unix.UnixRights(fd, fd, fd, fd)), "too many open files"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := new(Namespace).NewBroker()
			if err != nil {
				t.Fatal(err)
			}
			socket, err := unix.Dup(int(b.Socket().Fd()))
			if err != nil {
				t.Fatal(err)
			}
			b.Start()
			tt.init(t, socket)
			unix.Close(socket)
			for range 2 {
				err = b.Close()
				if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
					t.Errorf("%v, not %q", err, tt.err)
				}
			}
		})
	}
	b, err := new(Namespace).NewBroker()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil { // never started
		t.Error(err)
	}
}

func send(data, oob []byte) func(*testing.T, int) {
	return func(t *testing.T, socket int) {
		t.Helper()
		if err := unix.Sendmsg(socket, data, oob, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// The first thread, which stands for the process, stays where it is. Goroutines run
// in this process's network.
func TestNew(t *testing.T) {
	read := func(file string) string {
		t.Helper()
		link, err := os.Readlink(file)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	before := read("/proc/self/ns/net")
	for range 20 {
		ns, err := New()
		if err != nil {
			t.Skip("not here: ", err)
		}
		ns.Close()
		done := make(chan string)
		for range 10 {
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				done <- read("/proc/thread-self/ns/net")
			}()
		}
		for range 10 {
			if got := <-done; got != before {
				t.Fatalf("a goroutine is in %s, not %s", got, before)
			}
		}
	}
	if got := read("/proc/self/ns/net"); got != before {
		t.Errorf("the first thread is in %s, not %s", got, before)
	}
}

// A socket for routes cannot be used to change them, by a program that
// takes it for its output.
func TestRoutesAreToLookAt(t *testing.T) {
	done := make(chan error)
	go onOwnThread(func() { done <- linkUp(t) })
	err := <-done
	if err == errNoNamespace {
		t.Skip(err)
	}
	if err != unix.EPERM {
		t.Errorf("%v, not %v", err, unix.EPERM)
	}
}

var errNoNamespace = errors.New("a network namespace cannot be made here")

// linkUp asks the kernel to bring up the loopback interface, by a socket that a
// broker would make.
func linkUp(t *testing.T) error {
	if unix.Unshare(unix.CLONE_NEWNET) != nil {
		return errNoNamespace
	}
	fd, err := socketCall{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}.make()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const loopback = 1
	message := struct {
		unix.NlMsghdr
		unix.IfInfomsg
	}{
		unix.NlMsghdr{Type: unix.RTM_NEWLINK, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK},
		unix.IfInfomsg{Index: loopback, Flags: unix.IFF_UP, Change: unix.IFF_UP},
	}
	message.Len = uint32(unsafe.Sizeof(message))
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&message)), unsafe.Sizeof(message))
	// Not sent to an address: who gives one means what it does, and alone counts.
	if _, err := unix.Write(fd, raw); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 {
		t.Error("the answer is too short")
		return nil
	}
	return unix.Errno(-int32(binary.LittleEndian.Uint32(answer[unix.NLMSG_HDRLEN:])))
}
