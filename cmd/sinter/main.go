// Command sinter builds OCI images from Dockerfiles. This package holds the
// flags, the wiring and what people see; it is the only one that prints or
// exits.
package main

import (
	"io"
	"os"
	"time"

	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hostfile"
)

func main() {
	sandbox.Dispatch()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// patience is how long a wait for others may take before it is told of.
const patience = 3 * time.Second

// run is the whole program; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := untilInterrupted()
	defer stop()
	a := &app{args: args, stdin: stdin, stdout: stdout, stderr: stderr}
	ctx = hostfile.WithWaiting(ctx, hostfile.Waiting{Patience: patience, Tell: func(what string) {
		a.warn("waiting for " + what)
	}})
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if failed := a.close(); err == nil {
		err = failed
	} else if failed != nil {
		a.warn(failed.Error())
	}
	return a.report(ctx, err)
}
