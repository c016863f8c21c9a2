package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// explained adds hints to errors of n that have none.
func explained(n *parser.Node, err error) error {
	var file *fs.PathError
	switch {
	case errors.Is(err, fs.ErrPermission) && errors.As(err, &file) && isInput(n) && (file.Op == "open" || file.Op == "read"):
		return hint.Add(err, "this user may not read it: change that, or leave it out with .dockerignore")
	case errors.Is(err, unix.ENAMETOOLONG):
		return hint.Add(shortened(err), "the kernel takes paths of up to 4096 bytes, and names of up to 255: leave such files out with .dockerignore, or begin further down")
	case errors.Is(err, unix.EFBIG):
		return hint.Add(err, "files have a limit here: see ulimit -f")
	}
	_, text, _ := strings.Cut(n.Name, "] ")
	var command *runner.CommandError
	var exit *sandbox.ExitError
	if errors.As(err, &command) && errors.As(err, &exit) && exit.Reason == "" {
		if advice := shellHint(text, exit.ExitCode, command.Output); advice != "" {
			return hint.Add(err, advice)
		}
	}
	return climbed(n, misread(text, err))
}

// Exit codes of shells that could not start a program.
const (
	commandNotExecutable = 126
	commandNotFound      = 127
)

// joined is what shells print when an instruction is part of a RUN.
var joined = regexp.MustCompile(`\b(ADD|ARG|CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|LABEL|RUN|USER|VOLUME|WORKDIR): (command )?not found`)

// foreign is what shells print about a program for another architecture, or of it when
// they take it for a script.
var foreign = regexp.MustCompile(`(?i)exec format error|\x7fELF`)

// shellHint says what to do about a shell that could not start a program, for the
// instruction text and the end of what it printed; "" when nothing is known of it.
func shellHint(text string, code int, output string) string {
	script := ""
	if strings.HasPrefix(text, "RUN <<") {
		_, script, _ = strings.Cut(text, " (#!")
		script = strings.TrimSpace(strings.TrimSuffix(script, "...)"))
	}
	switch {
	case code >= commandNotExecutable && code <= commandNotFound && foreign.MatchString(output):
		return fmt.Sprintf("a program is for another architecture than this machine: take the one for linux/%s, or install an emulator: apt-get install qemu-user-static binfmt-support", runtime.GOARCH)
	case code == commandNotExecutable:
		return "exit code 126 usually means a file that cannot be executed: COPY --chmod=755 makes it executable, or chmod +x in an earlier RUN; a directory cannot be executed at all"
	case code != commandNotFound:
		return ""
	case strings.HasPrefix(text, "RUN ['"):
		return `the shell ran this as it is: a command in brackets is a JSON array, with double quotes: RUN ["program", "argument"]`
	case script != "":
		return fmt.Sprintf("exit code 127 usually means that a program was not found; if it is not one that the script calls, the image lacks %s, which the script's first line names", script)
	case joined.MatchString(output):
		return joined.FindStringSubmatch(output)[1] + " was run as part of the command: an instruction begins on a line of its own, and the line before must not end in a backslash"
	}
	return "exit code 127 usually means that a program was not found: install it in an earlier step, or check its name and PATH; if it is there, the image lacks the program that a script's first line names (lines must not end as on Windows), or the C library that a program was linked with (glibc or musl)"
}

// misread explains a comment after sources, which is not what it looks like.
func misread(text string, err error) error {
	var missing *fileop.MissingError
	if errors.As(err, &missing) && missing.Near == "" && missing.Hint == "" && !missing.Ignored && strings.Contains(text, " # ") {
		return &fileop.MissingError{Path: missing.Path, Hint: "a # begins a comment only at the start of a line: words after it are sources, and the last one the destination"}
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
