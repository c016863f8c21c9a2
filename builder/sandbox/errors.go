package sandbox

import "fmt"

// ExitError is a command that did not succeed. Its text is BuildKit's without the
// command, which people see beside it, and with the reason where there is one.
type ExitError struct {
	Args []string
	Result
	// Reason says why the command could not be started; empty when it ran.
	Reason string
	// Hint is what to do about Reason, or "".
	Hint string
}

func (e *ExitError) Error() string {
	return "the command did not complete successfully: " + e.cause()
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
