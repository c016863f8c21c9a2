// Command sinter builds OCI images from Dockerfiles. This package holds the
// flags, the wiring and what people see; it is the only one that prints or
// exits.
package main

import (
	"io"
	"os"

	"github.com/sinter-build/sinter/builder/sandbox"
)

func main() {
	sandbox.Dispatch()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := untilInterrupted()
	defer stop()
	a := &app{args: args, stdin: stdin, stdout: stdout, stderr: stderr}
	defer a.close()
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	return a.report(ctx, err)
}
