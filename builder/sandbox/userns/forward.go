package userns

import (
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A forwarder passes signals on to the program inside, each of them once.
//
// A terminal sends a signal to all processes of the foreground at the same
// time, so to us and to the program inside; a person with kill(1) sends it to us
// alone. The program inside writes a byte for every signal that reaches it: a
// signal is passed on when no such byte comes.
type forwarder struct {
	child *os.Process
	acks  <-chan struct{}
	done  <-chan struct{} // the context's; nil once it was heeded
	late  <-chan time.Time
	kill  <-chan time.Time

	waiting []os.Signal // not acknowledged yet
	acked   int         // acknowledged before they reached us; below 0: still to come
	ackedAt time.Time   // when that number changed; soon it means nothing any more
	ended   bool        // a signal that asks for the end is on its way
}

// passed returns the signals that are passed on; one that this process was
// started to ignore, as by nohup(1), stays ignored.
func passed() []os.Signal {
	return slices.DeleteFunc([]os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP}, signal.Ignored)
}

// received notes a signal to us.
func (f *forwarder) received(s os.Signal) {
	if s == unix.SIGUSR1 || s == unix.SIGUSR2 { // no terminal sends these
		f.send(s)
		return
	}
	f.ended = true
	if time.Since(f.ackedAt) > ackTimeout {
		f.acked = 0
	}
	if f.acked > 0 {
		f.acked--
		return
	}
	f.waiting = append(f.waiting, s)
	if f.late == nil {
		f.late = time.After(ackTimeout)
	}
}

// acknowledged notes that a signal has reached the program inside.
func (f *forwarder) acknowledged(open bool) {
	if !open {
		f.acks = nil
		return
	}
	if len(f.waiting) == 0 {
		f.acked++
		f.ackedAt = time.Now()
		return
	}
	f.waiting = f.waiting[1:]
	if len(f.waiting) == 0 {
		f.late = nil
	}
}

// forward passes on what was not acknowledged. Each of these will be
// acknowledged in turn, which then says nothing new.
func (f *forwarder) forward() {
	f.late = nil
	for _, s := range f.waiting {
		f.acked--
		f.ackedAt = time.Now()
		f.send(s)
	}
	f.waiting = nil
}

// cancelled asks the program inside to end, if a signal has not done so, and
// sets the time at which it is killed.
func (f *forwarder) cancelled() {
	f.done = nil
	f.kill = time.After(killTimeout)
	if !f.ended {
		f.received(unix.SIGTERM)
	}
}

// send sends a signal; that the program has just ended is no error.
func (f *forwarder) send(s os.Signal) { _ = f.child.Signal(s) }
