// Command sinter-sbom finds the packages in an image with syft and writes SPDX or
// CycloneDX documents. sinter runs it (sinter-sbom --request) for --sbom; in an image
// of its own it is a generator for BuildKit and sinter alike, by BuildKit's scanner
// protocol. It is a second program since syft is larger than all of sinter.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/cmd/sinter-sbom/catalog"
	"github.com/sinter-build/sinter/layers/hint"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	if err := defaultLimits.bound(); err != nil {
		report(os.Stderr, fmt.Errorf("limiting memory: %w", err))
		os.Exit(1)
	}
	go defaultLimits.guard(ctx, defaultLimits.heap(), cancel, func(err error) {
		report(os.Stderr, err)
		os.Exit(1)
	})
	os.Exit(run(ctx, catalog.NewScanner(), os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

const usage = `sinter-sbom finds the packages in an image.

usage: sinter-sbom --request   answer the request on standard input (sinter runs this)
       sinter-sbom --version
       sinter-sbom             scan $BUILDKIT_SCAN_SOURCE, as BuildKit's scanner protocol says
`

// run is the whole program; it returns the exit code.
func run(ctx context.Context, scanner *catalog.Scanner, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) == 1 && args[0] == sbom.RequestArg:
		err = serve(ctx, scanner, stdin, stdout, stderr)
	case len(args) == 1 && args[0] == "--version":
		_, err = fmt.Fprintln(stdout, "sinter-sbom", version())
	case len(args) == 0 && getenv(envSource) != "":
		err = scanDirectories(ctx, scanner, getenv, stderr)
	default:
		fmt.Fprint(stderr, usage)
		return 2
	}
	if err != nil {
		report(stderr, err)
		return 1
	}
	return 0
}

func report(stderr io.Writer, err error) {
	fmt.Fprintln(stderr, "error:", err)
	if h := hint.Of(err); h != "" {
		fmt.Fprintln(stderr, "hint:", h)
	}
}

// checkTemp fails where no temporary file can be made: syft unpacks archives into some,
// and would leave out what is in them.
func checkTemp() error {
	dir, err := os.MkdirTemp("", "sinter-sbom-")
	if err != nil {
		return hint.Add(fmt.Errorf("archives cannot be unpacked: %w", err), "mount a tmpfs at /tmp, or name a directory with TMPDIR")
	}
	return os.Remove(dir)
}

func version() string {
	if v := sbom.Hello().Version; v != "" {
		return v
	}
	return "devel"
}
