package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// outputs are the pipes that a command prints to: it gets pipes, never files of
// ours.
type outputs struct{ stdout, stderr *outputPipe }

func newOutputs(stdout, stderr io.Writer) (o outputs, err error) {
	if o.stdout, err = newOutputPipe(stdout); err != nil {
		return o, err
	}
	if o.stderr, err = newOutputPipe(stderr); err != nil {
		o.stdout.abort()
	}
	return o, err
}

// start begins to copy, once the command has its ends of the pipes.
func (o outputs) start() {
	o.stdout.start()
	o.stderr.start()
}

// finish copies what the command has printed until its end. Another process may
// have got hold of a pipe and keep it open: what that prints does not count.
func (o outputs) finish() error { return errors.Join(o.stdout.finish(), o.stderr.finish()) }

// abort closes pipes of a command that did not start.
func (o outputs) abort() {
	o.stdout.abort()
	o.stderr.abort()
}

// past is a deadline that every read has missed.
var past = time.Unix(1, 0)

// outputPipe copies what comes through a pipe to a writer.
type outputPipe struct {
	pipe
	to   io.Writer
	done chan error
}

func newOutputPipe(to io.Writer) (*outputPipe, error) {
	if to == nil {
		to = io.Discard
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	return &outputPipe{pipe: pipe{r, w}, to: to, done: make(chan error, 1)}, nil
}

func (p *outputPipe) start() {
	p.w.Close()
	go func() {
		// Not io.Copy: it might splice, and would hide the deadline of one side.
		_, err := io.CopyBuffer(struct{ io.Writer }{p.to}, struct{ io.Reader }{p.r}, make([]byte, 32<<10))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = p.drain()
		}
		if err != nil {
			p.r.Close() // so that the command does not wait for a reader
		}
		p.done <- err
	}()
}

func (p *outputPipe) finish() error {
	defer p.r.Close()
	// A reader that has failed has closed the pipe.
	_ = p.r.SetReadDeadline(past)
	if err := <-p.done; err != nil {
		return fmt.Errorf("passing on the output: %w", err)
	}
	return nil
}

func (p *outputPipe) abort() { p.close() }

// drain copies what is in the pipe, without waiting for more.
func (p *outputPipe) drain() error {
	raw, err := p.r.SyscallConn()
	if err != nil {
		return err
	}
	var left int
	if cerr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); cerr != nil || err != nil {
		return errors.Join(cerr, err)
	}
	buf := make([]byte, 32<<10)
	for left > 0 {
		var n int
		// The deadline has passed, so by a plain system call.
		if cerr := raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf[:min(left, len(buf))]) }); cerr != nil {
			return cerr
		}
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN || n == 0 {
			return nil // another process has taken the rest
		}
		if err != nil {
			return err
		}
		if _, err := p.to.Write(buf[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}
