package network

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Broker makes the sockets of one command, in this process's network. A nil one
// makes none.
type Broker struct {
	ours, theirs *os.File
	killable     bool // see answer
	// done is closed after the last answer; nil until Start.
	done chan struct{}
	err  error
}

// NewBroker makes a broker for a command in the namespace.
func (ns *Namespace) NewBroker() (*Broker, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	b := &Broker{
		theirs:   os.NewFile(uintptr(fds[1]), "broker"),
		killable: ns.FilterFlags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0,
	}
	if b.ours, err = pollable(fds[0], "broker"); err != nil {
		b.theirs.Close()
		return nil, err
	}
	return b, nil
}

// Socket is for the command's init: the listener of the command's filter is sent
// through it.
func (b *Broker) Socket() *os.File { return b.theirs }

// Start begins to answer, once the init has its end of the socket.
func (b *Broker) Start() {
	if b == nil {
		return
	}
	b.theirs.Close()
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		b.err = b.serve()
	}()
}

// Close ends a broker whose init, if there was one, has ended. It returns why the
// command did not get its sockets. It may be called again.
func (b *Broker) Close() error {
	if b == nil {
		return nil
	}
	defer b.ours.Close()
	defer b.theirs.Close()
	if b.done == nil {
		return nil
	}
	// Not closed yet: that would fail for the one who waits. The error is that of a
	// second time.
	if raw, err := b.ours.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	<-b.done
	return b.err
}

// serve answers until the last process with the filter has ended.
func (b *Broker) serve() error {
	listener, err := b.takeListener()
	if err != nil || listener == nil {
		return err
	}
	defer listener.Close()
	fd := int(listener.Fd())
	// An answer waits until its caller has run: one that does not shall not keep
	// the others waiting.
	var answers errgroup.Group
	answers.SetLimit(maxAnswers)
	for {
		n, err := takeCall(fd)
		if err != nil || n == nil {
			return errors.Join(err, answers.Wait())
		}
		answers.Go(func() error { return answer(fd, n, b.killable) })
	}
}

// maxAnswers is how many calls of a command are answered at once.
const maxAnswers = 16

// takeListener waits for the listener. It is nil when the command did not start.
func (b *Broker) takeListener() (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		return nil, fmt.Errorf("taking the listener of the command's system calls: %w", err)
	}
	raw, err := b.ours.SyscallConn()
	if err != nil {
		return fail(err)
	}
	var n, control, flags int
	oob := make([]byte, unix.CmsgSpace(4))
	rerr := raw.Read(func(fd uintptr) bool {
		n, control, flags, _, err = unix.Recvmsg(int(fd), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN
	})
	switch {
	case rerr != nil:
		return fail(rerr)
	case err != nil:
		return fail(err)
	case n == 0:
		return nil, nil
	case flags&unix.MSG_CTRUNC != 0:
		return fail(unix.EMFILE)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:control])
	if err == nil && len(messages) != 1 {
		err = errors.New("the message has none")
	}
	if err != nil {
		return fail(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return fail(err)
	}
	return os.NewFile(uintptr(fds[0]), "listener"), nil
}

// pollable takes over an open file, so that the runtime waits for it.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
