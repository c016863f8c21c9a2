package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// A pipe that nobody reads any more does not keep the program from ending; one that
// is read gets everything.
func TestInterruptedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, pipe := io.Pipe()
		w := &interruptibleWriter{to: pipe, ended: ctx.Done()}
		got := make(chan string)
		go func() {
			p := make([]byte, 100)
			var all strings.Builder
			for range 2 {
				n, _ := r.Read(p)
				all.Write(p[:n])
			}
			got <- all.String()
		}()
		for _, text := range []string{"one ", "last words"} {
			if n, err := io.WriteString(w, text); n != len(text) || err != nil {
				t.Errorf("writing %q: %d, %v", text, n, err)
			}
			cancel()
		}
		if s := <-got; s != "one last words" {
			t.Errorf("the reader got %q", s)
		}
		for range 2 {
			if _, err := io.WriteString(w, "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("a write that nobody reads: %v", err)
			}
		}
		r.Close() // ends what was left behind
	})
}

func TestInterruptibleOutput(t *testing.T) {
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer pipe.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, ok := interruptibleOutput(t.Context(), pipe).(*interruptibleWriter); !ok {
		t.Error("a pipe is not interruptible")
	}
	if interruptibleOutput(t.Context(), file) != io.Writer(file) {
		t.Error("a file is not itself")
	}
}
