package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
)

// TestInterruptedInput: who waits for input that never comes can be interrupted.
func TestInterruptedInput(t *testing.T) {
	for name, read := range map[string]func(context.Context, io.Reader) error{
		"stream": func(ctx context.Context, r io.Reader) error {
			in := interruptible(ctx, r)
			defer in.Close()
			_, err := io.ReadAll(in)
			return err
		},
		"line": func(ctx context.Context, r io.Reader) error {
			_, err := readLine(ctx, r)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			if _, err := w.WriteString("begun"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("interrupted")
			cancel(reason)
			if err := read(ctx, r); !errors.Is(err, reason) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestInputIsPassedOn(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("one\ntwo\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	in := interruptible(t.Context(), r)
	defer in.Close()
	if got, err := io.ReadAll(in); err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestIgnoredSignalsStayIgnored: what nohup(1) is for.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	// The tests themselves may run below nohup, or in the background of a script.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Reset(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if got := interrupts(); len(got) != 3 {
		t.Errorf("the program ends by %v", got)
	}
	signal.Ignore(syscall.SIGHUP)
	if got := interrupts(); len(got) != 2 || slices.Contains(got, os.Signal(syscall.SIGHUP)) {
		t.Errorf("with one ignored the program ends by %v", got)
	}
}
