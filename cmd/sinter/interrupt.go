package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// interrupts are the signals that ask the program to end. One that it was started
// to ignore, as by nohup(1), stays ignored.
func interrupts() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
}

// untilInterrupted returns a context that ends when one of the interrupts comes.
// The next one does not wait for what is still being cleaned up.
func untilInterrupted() (ctx context.Context, stop func()) {
	if len(interrupts()) == 0 { // which would mean all signals there are
		return context.WithCancel(context.Background())
	}
	ctx, release := signal.NotifyContext(context.Background(), interrupts()...)
	keep := context.AfterFunc(ctx, exitNextTime)
	return ctx, func() {
		keep()
		release()
	}
}

// exitNextTime ends the program when a signal comes again. What comes within the
// first second is the same one, which may reach us by two ways (see userns).
func exitNextTime() {
	time.Sleep(time.Second)
	again := make(chan os.Signal, 1)
	signal.Notify(again, interrupts()...)
	<-again
	os.Exit(exitInterrupted)
}

// interruptible reads r until ctx ends. A terminal or a pipe would have us wait
// for ever, whatever the context says.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	return hostfile.Interruptible(ctx, func() (io.ReadCloser, error) { return io.NopCloser(r), nil })
}

// await returns what do does, or that ctx has ended: do waits for a person, who
// may never come.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// readLine reads a line, and nothing after it that is still to be typed.
func readLine(ctx context.Context, from io.Reader) (string, error) {
	return await(ctx, func() (string, error) { return bufio.NewReader(from).ReadString('\n') })
}

// readPassword reads a line from a terminal without showing it. When ctx ends the
// terminal is again what it was.
func readPassword(ctx context.Context, terminal *os.File) (string, error) {
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	text, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	if ctx.Err() != nil {
		_ = term.Restore(fd, before)
	}
	return string(text), err
}
