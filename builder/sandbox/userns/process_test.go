package userns

import (
	"bytes"
	"fmt"
	"io"
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

// countSignals returns how many signals reach it until a second after the
// first.
func countSignals() int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1)
	fmt.Println("ready", os.Getpid())
	var end <-chan time.Time
	n := 0
	for {
		select {
		case s := <-signals:
			n++
			fmt.Println(s)
			if end == nil {
				end = time.After(2 * time.Second)
			}
		case <-end:
			return n
		}
	}
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

// startCounting starts a program that counts signals and returns the process id
// of the part inside.
func startCounting(t *testing.T, path string, cred *syscall.Credential, env ...string) (*exec.Cmd, *bytes.Buffer, int) {
	t.Helper()
	cmd := outside(path, cred, "signals")
	cmd.Env = append(cmd.Env, env...)
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
	rest := new(bytes.Buffer)
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(rest, r) }()
	t.Cleanup(func() { <-done })
	return cmd, rest, pid
}

func TestSignals(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	for name, tt := range map[string]struct {
		send func(parent, child int) error
		want int
	}{
		"to us": {func(parent, child int) error { return unix.Kill(parent, unix.SIGINT) }, 1},
		"to all, as a terminal does": {func(parent, child int) error {
			return unix.Kill(-parent, unix.SIGINT)
		}, 1},
		"to all, then to us": {func(parent, child int) error {
			if err := unix.Kill(-parent, unix.SIGINT); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
			return unix.Kill(parent, unix.SIGTERM)
		}, 2},
		"inside, later to us": {func(parent, child int) error {
			if err := unix.Kill(child, unix.SIGHUP); err != nil {
				return err
			}
			time.Sleep(2 * ackTimeout)
			return unix.Kill(parent, unix.SIGTERM)
		}, 2},
		"user-defined": {func(parent, child int) error { return unix.Kill(parent, unix.SIGUSR1) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			// On a busy machine an acknowledgement may come too late; not
			// three times in a row.
			got := -1
			for try := 0; try < 3 && got != tt.want; try++ {
				cmd, _, pid := startCounting(t, path, cred)
				if err := tt.send(cmd.Process.Pid, pid); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				got = cmd.ProcessState.ExitCode()
			}
			if got != tt.want {
				t.Errorf("%d signals reached the program inside, want %d", got, tt.want)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	cmd, rest, _ := startCounting(t, path, cred, "TEST_CANCEL=10ms")
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("one signal expected: %v, %s", err, rest)
	}
}

// TestParentDeath kills the program outside; the one inside must go with it.
func TestParentDeath(t *testing.T) {
	path, cred := program(t), plainUser(t, true)
	cmd, _, pid := startCounting(t, path, cred)
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
		cmd := outside(path, cred, "signals")
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
