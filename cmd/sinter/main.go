// Command sinter builds OCI images from Dockerfiles. This package holds the
// flags, the wiring and what people see; it is the only one that prints or
// exits.
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/moby/sys/user"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hostfile"
)

func main() {
	sandbox.Dispatch()
	collectBySize()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// patience is how long a wait for others may take before it is reported.
const patience = 3 * time.Second

// run is the whole program; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := untilInterrupted()
	defer stop()
	if err := setHome(); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	stdout, stderr = interruptibleOutput(ctx, stdout), interruptibleOutput(ctx, stderr)
	a := &app{args: args, stdin: stdin, stdout: stdout, stderr: stderr}
	a.takeWarningsOver()
	ctx = hostfile.WithWaiting(ctx, hostfile.Waiting{Patience: patience, Tell: func(what string) {
		a.warn("waiting for " + what)
	}})
	a.ctx = ctx
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	ran, err := root.ExecuteContextC(ctx)
	if failed := a.close(ctx); err == nil {
		err = failed
	} else if failed != nil {
		a.warn(failed.Error())
	}
	return a.report(ctx, ran.CommandPath(), err)
}

// setHome sets HOME to the user's home directory where the environment lacks it, so
// that it is the same for all who ask, also when the process starts itself again in
// a user namespace, in which it has another user ID.
func setHome() error {
	if os.Getenv("HOME") != "" {
		return nil
	}
	u, err := user.LookupUid(os.Getuid())
	if err != nil || u.Home == "" {
		return nil // this user has no home
	}
	return os.Setenv("HOME", u.Home)
}
