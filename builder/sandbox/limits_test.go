package sandbox

import (
	_ "embed"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
)

//go:embed testdata/limit.c
var limitSource string

// TestLimitsOfInit: a command that takes from the init what it needs fails, also
// when it ends with 0, and the error says why.
func TestLimitsOfInit(t *testing.T) {
	b := newBox(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed")
	}
	cmd := exec.Command("gcc", "-static", "-x", "c", "-o", filepath.Join(b.lower, "bin/limit"), "-")
	cmd.Stdin = strings.NewReader(limitSource)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	out, _, err := b.run(b.sh("limit NOFILE 0 && echo x >/made"))
	var advice *hint.Error
	if err == nil || !strings.Contains(err.Error(), "too many open files") || !errors.As(err, &advice) || !strings.Contains(advice.Hint, "limit of open files of process 1") {
		t.Errorf("got %v with the hint %v, printed %q", err, advice, out)
	}
	b.fail(b.sh("limit NOFILE 0; exit 7"), 7, "exit code: 7")
	// With these alone it does its work.
	b.want(b.sh("limit FSIZE 0 && limit CORE 0 && echo x >/made"), "")
	b.wantLeft("made")
}

// TestKilledInit: whoever kills the init ends the step, with a hint.
func TestKilledInit(t *testing.T) {
	b := newBox(t)
	s := b.sh("echo ready; sleep 1000")
	out, printed := io.Pipe()
	s.Stdout = printed
	done := make(chan error)
	go func() {
		_, err := Run(t.Context(), s)
		printed.Close()
		done <- err
	}()
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err, <-done)
	}
	for _, pid := range children(t) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	var advice *hint.Error
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the init ended early: signal: killed") || !errors.As(err, &advice) {
		t.Errorf("got %v", err)
	}
}
