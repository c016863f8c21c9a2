package builder

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// runCommand runs the command, passing on what it prints.
func (e *engine) runCommand(ctx context.Context, n *parser.Node, op parser.Exec, s sandbox.Spec) error {
	tail, log := &tail{}, e.Journal.log(n)
	out := func(stream int) io.Writer {
		return writerFunc(func(p []byte) (int, error) {
			tail.Write(p)
			_, _ = log.Write(p) // it has no errors
			e.Events(progress.Output{Step: n.ID, Stream: stream, Data: bytes.Clone(p), Time: time.Now()})
			return len(p), nil
		})
	}
	s.Stdout, s.Stderr = out(1), out(2)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sound, err := e.checkBelow(ctx, s, cancel)
	if err != nil {
		return err
	}
	res, err := sandbox.Run(ctx, s)
	e.Journal.note(n, func(s *noted) { s.memory = res.MaxRSS })
	if changed := sound(); changed != nil {
		return changed
	}
	if err != nil {
		for _, code := range op.ValidExitCodes {
			if res.ExitCode == code && code != 0 && ctx.Err() == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &CommandError{Err: err, ExitCode: res.ExitCode, Output: tail.String(), Lack: hostfile.LackOf(s.Upper)}
	}
	return nil
}

// checkBelow compares the directories that a command reads with what was stored,
// while the command runs, and stops it if there is a difference. The function that
// it returns waits for the result, when the command has ended: nobody must have
// replaced one of them either.
func (e *engine) checkBelow(ctx context.Context, s sandbox.Spec, stop context.CancelCauseFunc) (func() error, error) {
	dirs := slices.Clone(s.Lower)
	for _, m := range s.Mounts {
		dirs = append(dirs, m.Lower...)
	}
	watched, err := e.Layers.Watch(dirs)
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

// withProxy adds the proxy variables, in both spellings. As with BuildKit they
// count more than those of the Dockerfile.
func withProxy(env []string, p parser.Proxy) []string {
	out := env[:len(env):len(env)]
	add := func(value string, names ...string) {
		for _, name := range names {
			if value != "" {
				out = append(out, name+"="+value)
			}
		}
	}
	add(p.HTTP, "HTTP_PROXY", "http_proxy")
	add(p.HTTPS, "HTTPS_PROXY", "https_proxy")
	add(p.FTP, "FTP_PROXY", "ftp_proxy")
	add(p.No, "NO_PROXY", "no_proxy")
	add(p.All, "ALL_PROXY", "all_proxy")
	return out
}

// withPath adds docker's PATH to an environment that has none: shells would look
// elsewhere.
func withPath(env []string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		return env
	}
	return append(env[:len(env):len(env)], "PATH="+sandbox.DefaultPath)
}
