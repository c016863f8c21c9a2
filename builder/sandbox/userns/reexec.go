package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// killTimeout is how long the program inside may clean up when the context is done.
const killTimeout = 10 * time.Second

// passed returns the signals that are passed on; one that this process was
// started to ignore, as by nohup(1), stays ignored.
func passed() []os.Signal {
	return slices.DeleteFunc([]os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP}, signal.Ignored)
}

// Reexec runs this program with these arguments (those after the program's
// name) inside a new user and mount namespace and returns its exit code, 128
// and the signal's number when a signal ended it. Output goes where ours goes,
// stdin may be nil; the files that we were started with stay open there, under
// their numbers; signals to us go to it; it dies when we die. When the
// context is done it is asked to end, and killed if it does not. A terminal sends a
// signal to all processes of the foreground, so the program inside may get it twice at
// almost the same time, and once more when the signal ends the context.
//
// Without subordinate ids the namespace has a single one; see Single and
// Reason. A *RefusedError means that there can be no namespace, or none with the
// ids that the user has.
func Reexec(ctx context.Context, args []string, stdin *os.File) (int, error) {
	m, reason, err := choose()
	if err != nil {
		return 0, err
	}
	return enter(ctx, m, reason, args, stdin)
}

// enter starts the program in a namespace with these maps and waits for it.
func enter(ctx context.Context, m mapping, reason string, args []string, stdin *os.File) (int, error) {
	// The parent-death signal comes when the thread ends that made the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, append(passed(), unix.SIGUSR1, unix.SIGUSR2)...)
	defer signal.Stop(signals)

	c, err := start(reason, args, stdin)
	if err != nil {
		return 0, err
	}
	defer c.begin.Close()
	if err := m.apply(c.cmd.Process.Pid); err != nil {
		return 0, errors.Join(mapRefused(err), c.abort())
	}
	if _, err := c.begin.Write([]byte{0}); err != nil {
		return 0, fmt.Errorf("user namespace: starting the program inside: %w", errors.Join(err, c.abort()))
	}
	return c.wait(ctx, signals)
}

// A child is the program inside, seen from outside.
type child struct {
	cmd   *exec.Cmd
	begin *os.File // a byte lets it begin; see Continue
}

// start starts the program inside; it waits for its maps.
func start(reason string, args []string, stdin *os.File) (*child, error) {
	beginReader, begin, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	defer beginReader.Close()
	files, number, err := besideInherited(beginReader)
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", errors.Join(err, begin.Close()))
	}
	defer closeDuplicates(files, beginReader)

	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{Name}, args...)
	cmd.Env = environment(reason, number)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGKILL,
		// The program is executed before it has ids, so not as root, and would
		// lose the capabilities that the new namespace gives.
		AmbientCaps: allCaps(),
	}
	c := &child{cmd: cmd, begin: begin}
	if err := cmd.Start(); err != nil {
		begin.Close()
		return nil, refused(err)
	}
	return c, nil
}

// abort ends a program that has not begun.
func (c *child) abort() error {
	if err := c.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("user namespace: %w", err)
	}
	return nil
}

// wait waits for the program's end and passes signals on meanwhile.
func (c *child) wait(ctx context.Context, signals <-chan os.Signal) (int, error) {
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	// A signal to a program that has just ended is not an error.
	send := func(s os.Signal) { _ = c.cmd.Process.Signal(s) }
	canceled := ctx.Done()
	var kill <-chan time.Time
	for {
		select {
		case err := <-done:
			return exitCode(c.cmd.ProcessState, err)
		case s := <-signals:
			send(s)
		case <-canceled:
			canceled, kill = nil, time.After(killTimeout)
			send(unix.SIGTERM)
		case <-kill:
			send(unix.SIGKILL)
		}
	}
}

// exitCode reads the state of an ended process.
func exitCode(state *os.ProcessState, err error) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("user namespace: waiting for the program inside: %w", err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

// environment returns ours with what the program inside is told: the reason for a
// single id, the number of the file that lets it begin, and the user's home.
func environment(reason string, number int) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return name == reasonEnv || name == beginEnv || name == homeEnv
	})
	env = append(env, beginEnv+"="+strconv.Itoa(number))
	if reason != "" {
		env = append(env, reasonEnv+"="+reason)
	}
	home := os.Getenv("HOME")
	if u, err := user.LookupUid(os.Getuid()); err == nil {
		home = u.Home
	}
	return append(env, homeEnv+"="+home)
}

// allCaps returns all capabilities of this kernel.
func allCaps() []uintptr {
	last := unix.CAP_LAST_CAP
	if n, err := strconv.Atoi(setting("/proc/sys/kernel/cap_last_cap")); err == nil {
		last = n
	}
	caps := make([]uintptr, last+1)
	for i := range caps {
		caps[i] = uintptr(i)
	}
	return caps
}
