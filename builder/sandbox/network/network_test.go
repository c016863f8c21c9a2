package network

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A broker ends with its init, whatever that did.
func TestBrokerEnds(t *testing.T) {
	var none *Broker
	none.Start()
	if err := none.Close(); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		init func(t *testing.T, socket int)
		err  string
	}{
		"nothing":       {func(*testing.T, int) {}, ""},
		"no listener":   {send([]byte("x"), nil), "the message has none"},
		"another file":  {send([]byte("x"), unix.UnixRights(0)), "inappropriate ioctl"},
		"several files": {send([]byte("x"), unix.UnixRights(0, 1, 2, 3)), "too many open files"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := NewBroker()
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
	b, err := NewBroker()
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
		ns.File.Close()
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
