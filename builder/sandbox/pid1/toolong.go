package pid1

import (
	"fmt"
	"os"
	"strings"
)

// longestString is how many bytes one argument or variable may have, as execve(2)
// says; its last is the zero byte that ends it.
func longestString() int { return 32*os.Getpagesize() - 1 }

// tooLong explains why the kernel started no program: one of the strings that it
// would get is too long, or all of them together.
func tooLong(args, env []string) *startError {
	e := &startError{code: 126}
	reason := func(format string, a ...any) *startError {
		e.reason = fmt.Sprintf("exec %q: ", args[0]) + fmt.Sprintf(format, a...)
		return e
	}
	total := 0
	for i, arg := range args {
		total += len(arg) + 1
		if len(arg) <= longestString() {
			continue
		}
		if i > 1 && args[i-1] == "-c" {
			e.hint = "begin the heredoc with a line #!/bin/sh, or the path of another interpreter: it is then run as a file, of any length; or COPY the script and run that"
			return reason("the script has %d bytes: the kernel takes %d in one argument", len(arg), longestString())
		}
		e.hint = "put the text into a file"
		return reason("argument %d has %d bytes: the kernel takes %d in one", i, len(arg), longestString())
	}
	for _, kv := range env {
		total += len(kv) + 1
		if name, _, _ := strings.Cut(kv, "="); len(kv) > longestString() {
			e.hint = "put the value into a file: COPY it, or mount it with RUN --mount=type=secret"
			return reason("the environment variable %s has %d bytes: the kernel takes %d with the name", name, len(kv), longestString())
		}
	}
	e.hint = "put long values into files; a quarter of the limit on the stack (ulimit -s), and 6 MiB at most, is for arguments and environment"
	return reason("arguments and environment have %d bytes together, which is more than the kernel takes", total)
}
