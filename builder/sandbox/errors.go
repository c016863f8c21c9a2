package sandbox

import (
	"fmt"
	"strings"
)

// ExitError is a command that did not succeed. Its text is BuildKit's, with the
// reason where there is one to give.
type ExitError struct {
	Args []string
	Result
	// Reason says why the command could not be started; empty when it ran.
	Reason string
	// Hint is what to do about Reason, or "".
	Hint string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("process %q did not complete successfully: %s", shown(strings.Join(e.Args, " ")), e.cause())
}

// longestShown is how much of a command is shown, in bytes: what is wrong with it
// comes after it.
const longestShown = 500

// shown leaves out the end of a command that is longer than people read.
func shown(command string) string {
	if len(command) <= longestShown {
		return command
	}
	return strings.ToValidUTF8(command[:longestShown], "") + "…"
}

// HintText says what to do, or "".
func (e *ExitError) HintText() string {
	if e.OOM && e.Hint == "" {
		return "give the command more with --memory, or let fewer commands run at once with --max-parallelism"
	}
	return e.Hint
}

func (e *ExitError) cause() string {
	switch {
	case e.Reason != "":
		return fmt.Sprintf("exit code: %d: %s", e.ExitCode, e.Reason)
	case e.OOM:
		return fmt.Sprintf("exit code: %d: killed by the kernel because memory ran out", e.ExitCode)
	case e.Signal != 0:
		return fmt.Sprintf("exit code: %d: killed by signal %d", e.ExitCode, e.Signal)
	}
	return fmt.Sprintf("exit code: %d", e.ExitCode)
}
