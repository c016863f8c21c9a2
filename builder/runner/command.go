package runner

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// execute runs the command and passes on what it prints. It returns the memory of the
// largest process.
func (r *Runner) execute(ctx context.Context, c Command, s sandbox.Spec) (memory int64, err error) {
	tail := &tail{}
	out := func(stream int) io.Writer {
		return writerFunc(func(p []byte) (int, error) {
			tail.Write(p)
			c.Output(stream, bytes.Clone(p))
			return len(p), nil
		})
	}
	s.Stdout, s.Stderr = out(1), out(2)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sound, err := r.checkBelow(ctx, s, cancel)
	if err != nil {
		return 0, err
	}
	res, err := r.Sandbox(ctx, s)
	if res.OtherHostname {
		r.Warn("RUN sees the host name of the container around: its seccomp filter forbids setting another (sethostname)")
	}
	if changed := sound(); changed != nil {
		return res.MaxRSS, changed
	}
	switch {
	case err == nil:
		return res.MaxRSS, nil
	case ctx.Err() != nil:
		return res.MaxRSS, context.Cause(ctx)
	case res.ExitCode != 0 && slices.Contains(c.ValidExitCodes, res.ExitCode):
		return res.MaxRSS, nil
	}
	return res.MaxRSS, &CommandError{Err: err, ExitCode: res.ExitCode, Output: tail.String(), Lack: hostfile.LackOf(s.Upper)}
}

// checkBelow compares the directories that a command reads with what was stored,
// while the command runs, and stops it if there is a difference. The function that
// it returns waits for the result, when the command has ended: nobody must have
// replaced one of them either.
func (r *Runner) checkBelow(ctx context.Context, s sandbox.Spec, stop context.CancelCauseFunc) (func() error, error) {
	dirs := slices.Clone(s.Lower)
	for _, m := range s.Mounts {
		dirs = append(dirs, m.Lower...)
	}
	watched, err := r.Layers.Watch(dirs)
	if err != nil {
		return nil, err
	}
	result := make(chan error, 1)
	go func() {
		err := watched.Check(ctx)
		if err != nil {
			stop(err)
		}
		result <- err
	}()
	return func() error {
		if err := <-result; err != nil {
			return err
		}
		return watched.Still()
	}, nil
}

// CommandError is a RUN command that failed.
type CommandError struct {
	Err      error
	ExitCode int
	// Output is the end of what it printed.
	Output string
	// Lack is what the store's file system had none left of when it ended.
	Lack hostfile.Lack
}

func (e *CommandError) Error() string { return e.Err.Error() }

// Unwrap returns the sandbox's error.
func (e *CommandError) Unwrap() error { return e.Err }

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10 // bytes

func (t *tail) Write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = t.buf[over:]
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
