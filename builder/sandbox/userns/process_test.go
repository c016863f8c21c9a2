package userns

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// awaitSignal waits for a signal and returns its number.
func awaitSignal() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1)
	fmt.Println("ready", os.Getpid())
	if s, ok := (<-signals).(syscall.Signal); ok {
		return int(s)
	}
	return -1
}

func TestExit(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	for name, tt := range map[string]struct {
		args []string
		want int
	}{
		"success": {[]string{"exit", "0"}, 0},
		"failure": {[]string{"exit", "7"}, 7},
		"signal":  {[]string{"die"}, 137},
	} {
		cmd := outside(path, cred, tt.args...)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != tt.want {
			t.Errorf("%s: exit code %d (%v), want %d: %s", name, got, err, tt.want, out)
		}
	}
	cmd := outside(path, cred, "cat")
	cmd.Stdin = strings.NewReader("through stdin")
	if out, err := cmd.Output(); err != nil || string(out) != "through stdin" {
		t.Errorf("cat: %q, %v", out, err)
	}
}

// startWaiting starts a program that waits for a signal, and returns the process ID of
// the part inside.
func startWaiting(t *testing.T, path string, cred *syscall.Credential) (*exec.Cmd, int) {
	t.Helper()
	cmd := outside(path, cred, "signal")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var pid int
	if _, err := fmt.Fscanf(r, "ready %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	return cmd, pid
}

// TestSignals: signals to the program outside reach the one inside.
func TestSignals(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	for _, s := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1} {
		cmd, _ := startWaiting(t, path, cred)
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != int(s) {
			t.Errorf("%v: signal %d came inside", s, got)
		}
	}
}

// TestCancel: when the context is done, the program inside is asked to end.
func TestCancel(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	cmd, _ := startWaiting(t, path, cred)
	if err := cmd.Process.Signal(cancelSignal); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != int(unix.SIGTERM) {
		t.Errorf("signal %d came inside", got)
	}
}

// TestParentDeath kills the program outside; the one inside must go with it.
func TestParentDeath(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	cmd, pid := startWaiting(t, path, cred)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 60_000); n != 1 || err != nil {
		t.Errorf("still running a minute after its parent: %v", err)
	}
}

// TestKillAnywhere kills the program outside at any moment of its start; nothing
// of it may be left.
func TestKillAnywhere(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	left := func() []string {
		var pids []string
		links, err := filepath.Glob("/proc/[0-9]*/exe")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if exe, err := os.Readlink(link); err == nil && exe == path {
				pids = append(pids, link)
			}
		}
		return pids
	}
	for i := range 40 {
		cmd := outside(path, cred, "signal")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		var pids []string
		for range 6000 {
			if pids = left(); len(pids) == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(pids) > 0 {
			t.Fatalf("killed after %d ms, left: %v", i, pids)
		}
	}
}
