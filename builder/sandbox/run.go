package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/sandbox/network"
	"github.com/sinter-build/sinter/builder/sandbox/pid1"
	"github.com/sinter-build/sinter/layers/hint"
)

// Run runs a command and waits for it and for everything that it started. A
// command that does not succeed is an *ExitError; the result counts then too.
// When the context ends, or this process does, nothing of the command is left.
func Run(ctx context.Context, spec Spec) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if len(spec.Args) == 0 {
		return Result{}, errors.New("running a command: there is none")
	}
	start := time.Now()
	ns, err := takeNamespace(ctx, &spec)
	if err != nil {
		return Result{}, fmt.Errorf("preparing the sandbox: %w", err)
	}
	defer giveBack(ns)
	p, err := newPlan(spec, ns)
	if err != nil {
		return Result{}, fmt.Errorf("preparing the sandbox: %w", err)
	}
	defer os.Remove(p.Stage)
	group, err := newGroup(spec.CgroupParent, spec.Resources)
	if err != nil {
		return Result{}, fmt.Errorf("limiting the command: %w", err)
	}
	defer group.remove()
	kills := group.oomKills()
	r, err := runIn(ctx, spec, p, ns, group)
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if err != nil && group.oomKills() > kills {
		// The kernel chose the init, which is in the command's group.
		res := Result{ExitCode: 128 + int(unix.SIGKILL), OOM: true, Duration: time.Since(start)}
		return res, &ExitError{Args: spec.Args, Result: res}
	}
	if err != nil {
		return Result{}, fmt.Errorf("running the sandbox: %w", err)
	}
	if spec.Upper != "" {
		if err := removeStubs(spec.Upper, r.Stubs); err != nil {
			return Result{}, fmt.Errorf("removing mount points: %w", err)
		}
	}
	if r.Err != "" {
		return Result{}, failure(r)
	}
	res := Result{ExitCode: r.ExitCode, Signal: r.Signal, Duration: time.Since(start), MaxRSS: r.MaxRSS, OtherHostname: r.OtherHostname}
	if res.ExitCode == 0 {
		return res, nil
	}
	// A shell reports its child's signal as its own exit code.
	res.OOM = res.ExitCode == 128+int(unix.SIGKILL) && group.oomKills() > kills
	return res, &ExitError{Args: spec.Args, Result: res, Reason: r.Reason, Hint: r.Hint}
}

// failure is the init's own failure.
func failure(r pid1.Report) error {
	doing := "preparing the sandbox"
	if r.Ended {
		doing = "keeping what the command wrote"
	}
	err := fmt.Errorf("%s: %s", doing, r.Err)
	if r.Hint != "" {
		return hint.Add(err, r.Hint)
	}
	return err
}

// runIn starts the init in a network namespace, or in this process's, and returns its
// report.
func runIn(ctx context.Context, s Spec, p *pid1.Plan, ns *network.Namespace, group *group) (r pid1.Report, err error) {
	if ns == nil {
		return runInit(ctx, s, p, nil, group)
	}
	if nerr := ns.Do(func() { r, err = runInit(ctx, s, p, ns, group) }); nerr != nil {
		return r, nerr
	}
	return r, err
}

// runInit starts the init and returns its report.
func runInit(ctx context.Context, s Spec, p *pid1.Plan, ns *network.Namespace, group *group) (r pid1.Report, err error) {
	// The kernel ends the init when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, out, err := messagePipes()
	if err != nil {
		return r, err
	}
	defer out.close()
	defer in.close()
	nothing, err := emptyInput()
	if err != nil {
		return r, err
	}
	defer nothing.Close()
	files := []*os.File{pid1.PlanFD - 3: in.r, pid1.ReportFD - 3: out.w}
	tmpfs := giveTmpfs(ctx, p, len(files)+3)
	defer closeAll(tmpfs)
	files = append(files, tmpfs...)
	broker, more, err := connect(ns, p, len(files)+3)
	if err != nil {
		return r, err
	}
	defer broker.Close()
	cmd, err := initCommand(ctx, s, nothing, append(files, more...))
	if err != nil {
		return r, err
	}
	printed, err := newOutputs(s.Stdout, s.Stderr)
	if err != nil {
		return r, err
	}
	cmd.Stdout, cmd.Stderr = printed.stdout.w, printed.stderr.w
	if err := cmd.Start(); err != nil {
		printed.abort()
		return r, fmt.Errorf("starting the init: %w", err)
	}
	broker.Start()
	printed.start()
	in.r.Close()
	out.w.Close()
	err = group.add(cmd.Process.Pid)
	if err == nil {
		err = talk(in.w, out.r, p, &r)
	}
	if err != nil {
		cmd.Process.Kill()
	}
	if werr := cmd.Wait(); werr != nil && (err == nil || errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE)) {
		err = hint.Add(
			fmt.Errorf("the init ended early: %w", werr),
			"somebody killed it, this machine ran short of memory, or the command lowered the resource limits of process 1, which is sinter's (prlimit)",
		)
	}
	return r, errors.Join(err, broker.Close(), printed.finish())
}

// talk gives the init its plan and waits for its report.
func talk(w io.Writer, r io.Reader, p *pid1.Plan, answer *pid1.Report) error {
	if err := pid1.WritePlan(w, p); err != nil {
		return fmt.Errorf("writing the plan: %w", err)
	}
	if err := pid1.ReadReport(r, answer); err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	return nil
}

// ownFiles is how many files every init is given besides the standard three.
const ownFiles = pid1.ReportFD - 2

// initCommand is how the init is started; in is what the command reads, files
// are the init's own.
func initCommand(ctx context.Context, s Spec, in *os.File, files []*os.File) (*exec.Cmd, error) {
	cmd, err := selfCommand(ctx, files)
	if err != nil {
		return nil, err
	}
	cmd.Args = []string{pid1.Name, pid1.ExtraArg(len(files) - ownFiles)}
	// The init lives shortly and has little to collect; the race detector, when
	// it is in the binary, would have it wait for a second at its end.
	// The runtime is not to keep files of its control group open: the init closes
	// what it did not open itself.
	cmd.Env = []string{"GOGC=off", "GOMEMLIMIT=64MiB", "GORACE=atexit_sleep_ms=0", "GODEBUG=containermaxprocs=0"}
	cmd.Stdin = in
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if s.Network == NetNone {
		flags |= unix.CLONE_NEWNET
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: unix.SIGKILL, Setsid: true}
	return cmd, nil
}

// emptyInput is a pipe at its end, the standard input that BuildKit gives.
func emptyInput() (*os.File, error) {
	r, w, err := os.Pipe()
	if err == nil {
		err = w.Close()
	}
	return r, err
}

type pipe struct{ r, w *os.File }

func (p pipe) close() {
	p.r.Close()
	p.w.Close()
}

func messagePipes() (in, out pipe, err error) {
	if in.r, in.w, err = os.Pipe(); err != nil {
		return in, out, err
	}
	if out.r, out.w, err = os.Pipe(); err != nil {
		in.close()
	}
	return in, out, err
}
