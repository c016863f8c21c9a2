package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// buildScanner builds sinter-sbom once for all scripts; it is removed with the directory
// of the first that wants it, at the end of the test.
var buildScanner = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "sinter-sbom-"); err != nil {
		return "", err
	}
	// With the flags of go vet and go test, since to compile syft takes minutes.
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "sinter-sbom"), "../sinter-sbom")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	build.Stderr = os.Stderr
	// Scripts run as plain users, too.
	return dir, errors.Join(os.Chmod(dir, 0o755), build.Run())
})

// cmdScanner puts the program sinter-sbom on PATH.
func cmdScanner(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: scanner")
	}
	dir, err := buildScanner()
	ts.Check(err)
	ts.Setenv("PATH", dir+string(os.PathListSeparator)+ts.Getenv("PATH"))
}
