package sbom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sinter-build/sinter/layers/hint"
)

const (
	// program is what the scanner is called.
	program = "sinter-sbom"
	// RequestArg makes the program read a request. Without it, it is a scanner of
	// BuildKit's.
	RequestArg = "--request"
	// maxAnswer is how long an answer may be, in bytes. A document of 5,000 packages
	// with 300,000 files has about 200 MB.
	maxAnswer = 1 << 30
	// maxComplaint is how much of standard error is quoted, in bytes.
	maxComplaint = 16 << 10
	// patience is how long the program may take to end when it is told to.
	patience = 5 * time.Second
)

// ProgramError says that the program is not found, or is of another version.
type ProgramError struct{ err error }

func (e *ProgramError) Error() string { return e.err.Error() }

// Unwrap returns what is wrong with the program.
func (e *ProgramError) Unwrap() error { return e.err }

// HintText tells how to get the program.
func (e *ProgramError) HintText() string {
	return "run: go install github.com/sinter-build/sinter/cmd/sinter-sbom@latest, or put the release's " + program + " beside sinter"
}

// Find returns the path of sinter-sbom: beside this program, or on PATH; a *ProgramError if
// it is not there. What everybody could have put there is refused.
func Find() (string, error) {
	var places []string
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Dir(self))
	}
	for _, dir := range append(places, filepath.SplitList(os.Getenv("PATH"))...) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		if err := checkPlace(path); err != nil {
			return "", err
		}
		return path, nil
	}
	return "", &ProgramError{fmt.Errorf("an SBOM needs the program %s: not found beside sinter or on PATH", program)}
}

// checkPlace refuses a program that anybody on the machine could have put there.
func checkPlace(path string) error {
	if !filepath.IsAbs(path) {
		return hint.Add(fmt.Errorf("%s is in %s, which PATH names by a relative path", program, filepath.Dir(path)),
			"write absolute paths into PATH")
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, p := range []string{filepath.Dir(path), filepath.Dir(real), real} {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if info.Mode()&0o002 != 0 {
			return hint.Add(fmt.Errorf("%s is not run: %s is writable by everybody", path, p),
				"put it into a directory that only its owner can write to")
		}
	}
	return nil
}

// Scan finds the packages of the request's subjects.
func Scan(ctx context.Context, r Request) (*Answer, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	return run(ctx, path, r)
}

// ExpandsHint is for scans that take too much.
const ExpandsHint = "an archive in the image may be made to expand without end"

// outOfMemory is what Go's runtime says when the kernel refuses memory.
const outOfMemory = "fatal error: runtime: out of memory"

func run(ctx context.Context, path string, r Request) (*Answer, error) {
	r.Handshake = Hello()
	request, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("writing the request for an SBOM: %w", err)
	}
	stdout, stderr := &limited{max: maxAnswer, fail: true}, &limited{max: maxComplaint}
	c := exec.CommandContext(ctx, path, RequestArg)
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(request), stdout, stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = patience
	err = c.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		said := strings.TrimSpace(strings.TrimPrefix(stderr.buf.String(), "error: "))
		switch {
		case strings.Contains(said, outOfMemory):
			err = hint.Add(errors.New("finding packages takes too much memory"), ExpandsHint)
		case said != "":
			said, advice, _ := strings.Cut(said, "\nhint: ")
			if err = errors.New(said); advice != "" {
				err = hint.Add(err, advice)
			}
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a, err := ReadAnswer(stdout.buf.Bytes(), r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

// ReadAnswer reads an answer to a request, and checks that it is one.
func ReadAnswer(data []byte, r Request) (*Answer, error) {
	var a Answer
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("reading its answer: %w", err)
	}
	if err := Hello().Check(a.Handshake); err != nil {
		return nil, &ProgramError{err}
	}
	for _, s := range r.Subjects {
		if !bytes.HasPrefix(a.Documents[s.Name], []byte("{")) {
			return nil, fmt.Errorf("its answer has no document of %q", s.Name)
		}
		for _, p := range a.Packages[s.Name] {
			if p.Layer < 0 || p.Layer >= len(s.Layers) {
				return nil, fmt.Errorf("its answer has package %q in layer %d of %d", p.Name, p.Layer, len(s.Layers))
			}
		}
	}
	return &a, nil
}

// ReadRequest reads a request, and checks that it is one that this program can answer.
func ReadRequest(data []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("reading the request: %w", err)
	}
	if err := Hello().Check(r.Handshake); err != nil {
		return r, hint.Add(fmt.Errorf("sinter asks for an SBOM: %w", err), "use sinter and "+program+" of one version")
	}
	if r.Format != SPDX && r.Format != CycloneDX {
		return r, fmt.Errorf("the request's format %q is unknown", r.Format)
	}
	if !filepath.IsAbs(r.Store) {
		return r, fmt.Errorf("the request's store %q is not an absolute path", r.Store)
	}
	names := map[string]bool{}
	for _, s := range r.Subjects {
		if s.Name == "" || names[s.Name] {
			return r, fmt.Errorf("the request has two subjects called %q, or one without a name", s.Name)
		}
		names[s.Name] = true
	}
	return r, nil
}

// limited keeps what is written to it up to a limit. What comes after that is dropped,
// or fails the write.
type limited struct {
	buf  bytes.Buffer // not embedded: its ReadFrom knows no limit
	max  int
	fail bool
}

func (l *limited) Write(p []byte) (int, error) {
	if room := l.max - l.buf.Len(); len(p) > room {
		if l.fail {
			return 0, fmt.Errorf("an answer of more than %d bytes", l.max)
		}
		l.buf.Write(p[:room])
		return len(p), nil
	}
	return l.buf.Write(p)
}
