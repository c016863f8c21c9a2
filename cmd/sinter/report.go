package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/parser"
)

// report prints err, with the place, the reason and the hint, and returns the exit
// code. ran is the command that ended with it.
func (a *app) report(ctx context.Context, ran string, err error) int {
	if !a.rawJSON {
		return a.explain(ctx, a.stderr, ran, err)
	}
	var text strings.Builder
	code := a.explain(ctx, &text, ran, err)
	if text.Len() > 0 {
		a.say(failure(text.String()))
	}
	return code
}

// explain is report in plain text.
func (a *app) explain(ctx context.Context, w io.Writer, ran string, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	if is[*exitError](err) {
		return code
	}
	if code == exitInterrupted {
		fmt.Fprintln(w, "error: interrupted")
		return code
	}
	var parse *parser.Error
	var step *builder.StepError
	switch {
	case errors.As(err, &parse):
		printPlace(w, parse.Source, parse.Ranges)
	case errors.As(err, &step):
		a.printStep(w, step)
	}
	fmt.Fprintf(w, "error: %s\n", legible(a.redact(strings.TrimSuffix(err.Error(), "\n"))))
	for _, h := range append(a.hints(err), a.pushAgain(err)) {
		if h != "" {
			fmt.Fprintf(w, "hint: %s\n", a.redact(h))
		}
	}
	if usage, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(w, "hint: see %s --help\n", cmp.Or(usage.command, ran))
	}
	return code
}

// printStep shows the end of what a failing command printed, unless the display
// has done so, and the lines of the Dockerfile that it comes from.
func (a *app) printStep(w io.Writer, e *builder.StepError) {
	const rule = "------"
	var command *runner.CommandError
	if a.silent && errors.As(e, &command) && command.Output != "" {
		fmt.Fprintf(w, "%s\n > %s:\n%s\n%s\n", rule, e.Node.Name, strings.TrimRight(command.Output, "\n"), rule)
	}
	if src := e.Source(); src != nil {
		printPlace(w, src, e.Node.Pos)
	}
}

// context lines around the place of an error.
const aroundLines = 2

// mostLines is how many lines of a long instruction are shown besides its last.
const mostLines = 20

// printPlace shows the lines of ranges with those around them, marks them and
// puts carets under the first.
func printPlace(w io.Writer, src *parser.SourceFile, ranges []parser.Range) {
	if src == nil || len(ranges) == 0 {
		return
	}
	lines := strings.Split(strings.TrimSuffix(string(src.Data), "\n"), "\n")
	first, last := ranges[0].Start.Line, ranges[0].End.Line
	for _, r := range ranges {
		first, last = min(first, r.Start.Line), max(last, r.End.Line)
	}
	last = max(last, first)
	if first < 1 || first > len(lines) {
		return
	}
	fmt.Fprintf(w, "%s:%d\n--------------------\n", src.Name, first)
	for n := max(1, first-aroundLines); n <= min(len(lines), last+aroundLines); n++ {
		if n == first+mostLines && n < last {
			fmt.Fprintf(w, "     |     … (%s)\n", count(last-n, "more line"))
			n = last
		}
		text := clipped(legible(strings.TrimSuffix(lines[n-1], "\r")))
		marked := inRanges(n, ranges)
		mark := "   "
		if marked {
			mark = ">>>"
		}
		fmt.Fprintf(w, "%4d | %s %s\n", n, mark, text)
		if n == first {
			fmt.Fprintf(w, "     |     %s\n", carets(text))
		}
	}
	fmt.Fprintln(w, "--------------------")
}

// longestLine is how much of a Dockerfile's line is shown, in characters.
const longestLine = 300

func clipped(text string) string {
	if runes := []rune(text); len(runes) > longestLine {
		return string(runes[:longestLine]) + "…"
	}
	return text
}

// legible replaces what a terminal would obey, or could not show, in text that
// comes from files and servers, and what turns the direction of text: a package could
// seem to have another name.
func legible(text string) string {
	return strings.Map(func(r rune) rune {
		if obeyed(r) && r != '\t' && r != '\n' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// obeyed reports whether a terminal obeys a character in place of showing it.
func obeyed(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// onLine is legible text on one line.
func onLine(text string) string {
	return legible(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(text))
}

func inRanges(line int, ranges []parser.Range) bool {
	for _, r := range ranges {
		if r.Start.Line <= line && line <= max(r.End.Line, r.Start.Line) {
			return true
		}
	}
	return false
}

// carets underlines the text of a line, keeping its indentation.
func carets(text string) string {
	trimmed := strings.TrimLeft(text, " \t")
	return text[:len(text)-len(trimmed)] + strings.Repeat("^", max(1, len([]rune(strings.TrimRight(trimmed, " \t")))))
}
