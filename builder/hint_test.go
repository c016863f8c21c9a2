package builder

import (
	"strings"
	"testing"

	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/builder/sandbox"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// TestShellHints: a shell that could not start a program says little; the hint says
// what may be the reason.
func TestShellHints(t *testing.T) {
	for _, tt := range []struct {
		text, output string
		code         int
		want         string
	}{
		{"RUN apt-get update", "/bin/sh: apt-get: not found\n", 127, "install it in an earlier step"},
		{"RUN ['sh', '-c']", "/bin/sh: [sh,: not found\n", 127, "a JSON array, with double quotes"},
		{"RUN <<EOF (#!/bin/bash -e...)", "/bin/sh: /dev/pipes/EOF: not found\n", 127, "the image lacks /bin/bash -e, which"},
		{"RUN <<EOF (echo a...)", "/bin/sh: b: not found\n", 127, "install it in an earlier step"},
		{"RUN echo a && COPY b /", "/bin/sh: COPY: not found\na\n", 127, "COPY was run as part of the command"},
		{"RUN echo a && ENV A=b", "/bin/bash: line 1: ENV: command not found\n", 127, "ENV was run as part of the command"},
		{"RUN XCOPY a", "/bin/sh: XCOPY: not found\n", 127, "install it in an earlier step"},
		{"RUN /x", "/bin/sh: /x: Permission denied\n", 126, "COPY --chmod=755"},
		{"RUN /x", "/bin/bash: line 1: /x: cannot execute binary file: Exec format error\n", 126, "another architecture"},
		{"RUN /x", "/x: line 1: \x7fELF\x02\x01: not found\n", 127, "another architecture"},
		{"RUN cat /x; exit 1", "\x7fELF\x02\x01\n", 1, ""},
		{"RUN false", "", 1, ""},
	} {
		exit := &sandbox.ExitError{}
		exit.ExitCode = tt.code
		n := &parser.Node{Name: "[stage 2/3] " + tt.text}
		err := explained(n, &runner.CommandError{Err: exit, ExitCode: tt.code, Output: tt.output})
		advice := ""
		if h, ok := err.(*hint.Error); ok {
			advice = h.Hint
		}
		if !strings.Contains(advice, tt.want) || (advice == "") != (tt.want == "") {
			t.Errorf("%s: %q, want %q", tt.text, advice, tt.want)
		}
		exit.Reason, exit.Hint = "exec: not found", "its own"
		if err := explained(n, &runner.CommandError{Err: exit}); err.(*runner.CommandError).Err != exit {
			t.Errorf("%s: a command that has a hint got another", tt.text)
		}
	}
}
