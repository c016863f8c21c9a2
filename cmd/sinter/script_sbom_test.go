package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// scannerVariable names the folder of a sinter-sbom that is built already: a plain user's
// tests run where the source is not.
const scannerVariable = "SINTER_TEST_SCANNER"

// scannerProgram is sinter-sbom, built when the first script wants it.
var scannerProgram builtScanner

type builtScanner struct {
	mu  sync.Mutex
	dir string
}

// folder returns the folder that the program is in.
func (s *builtScanner) folder() (string, error) {
	if dir := os.Getenv(scannerVariable); dir != "" {
		return dir, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != "" {
		return s.dir, nil
	}
	dir, err := os.MkdirTemp("/var/tmp", "sinter-sbom-")
	if err != nil {
		return "", err
	}
	s.dir = dir
	// With the flags of go vet and go test, since to compile syft takes minutes.
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "sinter-sbom"), "../sinter-sbom")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	build.Stderr = os.Stderr
	// Scripts run as plain users, too.
	return dir, errors.Join(os.Chmod(dir, 0o755), build.Run())
}

// remove removes the program at the end of a test.
func (s *builtScanner) remove(t *testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.RemoveAll(s.dir); err != nil && s.dir != "" {
		t.Error(err)
	}
	s.dir = ""
}

// scannerFor returns the variable for tests of a plain user that run scripts.
func scannerFor(t *testing.T, tests string) []string {
	t.Helper()
	if !strings.Contains(tests, "TestScript") {
		return nil
	}
	dir, err := scannerProgram.folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { scannerProgram.remove(t) })
	return []string{scannerVariable + "=" + dir}
}

// cmdScanner puts the program sinter-sbom on PATH.
func cmdScanner(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: scanner")
	}
	dir, err := scannerProgram.folder()
	ts.Check(err)
	ts.Setenv("PATH", dir+string(os.PathListSeparator)+ts.Getenv("PATH"))
}
