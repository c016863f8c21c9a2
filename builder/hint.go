package builder

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/parser"
)

// HintError is an error with the way out of it.
type HintError struct {
	Err  error
	Hint string
}

// Hinted adds a way out to an error.
func Hinted(err error, hint string) error { return &HintError{Err: err, Hint: hint} }

func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e *HintError) Unwrap() error { return e.Err }

// HintText returns the way out.
func (e *HintError) HintText() string { return e.Hint }

// explained adds the way out to errors of n that know none.
func explained(n *parser.Node, err error) error {
	var file *fs.PathError
	switch {
	case errors.Is(err, fs.ErrPermission) && errors.As(err, &file) && isInput(n) && (file.Op == "open" || file.Op == "read"):
		return Hinted(err, "this user may not read it: change that, or leave it out with .dockerignore")
	case errors.Is(err, unix.ENAMETOOLONG):
		return Hinted(shortened(err), "the kernel takes paths of up to 4096 bytes, and names of up to 255: leave such files out with .dockerignore, or begin further down")
	case errors.Is(err, unix.EFBIG):
		return Hinted(err, "files have a limit here: see ulimit -f")
	}
	return climbed(n, misread(n, err))
}

// commandNotFound is a shell's exit code when it finds no such program.
const commandNotFound = 127

// misread explains a comment after sources, and a command in brackets with
// single quotes: neither means what it looks like.
func misread(n *parser.Node, err error) error {
	_, text, _ := strings.Cut(n.Name, "] ")
	var missing *fileop.MissingError
	var exit *sandbox.ExitError
	switch {
	case errors.As(err, &missing) && missing.Near == "" && missing.Hint == "" && !missing.Ignored && strings.Contains(text, " # "):
		return &fileop.MissingError{Path: missing.Path, Hint: "a # begins a comment only at the start of a line: words after it are sources, and the last one the destination"}
	case errors.As(err, &exit) && exit.Reason == "" && exit.ExitCode == commandNotFound && strings.HasPrefix(text, "RUN ['"):
		return Hinted(err, `the shell ran this as it is: a command in brackets is a JSON array, with double quotes: RUN ["program", "argument"]`)
	}
	return err
}

// isInput reports whether n reads files of the user's.
func isInput(n *parser.Node) bool {
	for _, in := range n.Inputs {
		if in.Node != nil {
			if _, ok := in.Node.Op.(parser.Local); ok {
				return true
			}
		}
	}
	_, ok := n.Op.(parser.Local)
	return ok
}

// shownPath is how much of a path is shown at least, in bytes.
const shownPath = 100

// shortened leaves out the middle of a path that nobody would read.
func shortened(err error) error {
	var file *fs.PathError
	if !errors.As(err, &file) || len(file.Path) < 3*shownPath {
		return err
	}
	end := len(file.Path) - shownPath
	return &fs.PathError{Op: file.Op, Path: file.Path[:shownPath] + "…" + file.Path[end:], Err: file.Err}
}

// climbed says what becomes of .. in a source that is missing: the frontend has
// taken it away, so only the step's name still tells of it.
func climbed(n *parser.Node, err error) error {
	var missing *fileop.MissingError
	if !errors.As(err, &missing) || missing.Near != "" || missing.Ignored || missing.Foreign || !strings.Contains(n.Name, " ../") {
		return err
	}
	return &fileop.MissingError{Path: missing.Path, Climbs: true}
}
