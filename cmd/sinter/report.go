package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/runner"
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// The exit codes, as the help of the root command and the README give them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPush        = 3
	exitPlan        = 4
	exitInterrupted = 130
)

// report prints err, with the place, the reason and the hint, and picks the
// exit code.
func (a *app) report(ctx context.Context, err error) int {
	if !a.rawJSON {
		return a.explain(ctx, a.stderr, err)
	}
	var text strings.Builder
	code := a.explain(ctx, &text, err)
	if text.Len() > 0 {
		a.say(failure(text.String()))
	}
	return code
}

// explain is report in plain text.
func (a *app) explain(ctx context.Context, w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var quiet *exitError
	if errors.As(err, &quiet) {
		return quiet.code
	}
	if isInterrupted(ctx, err) {
		fmt.Fprintln(w, "error: interrupted")
		return exitInterrupted
	}
	var usage *usageError
	var parse *parser.Error
	var step *builder.StepError
	switch {
	case errors.As(err, &parse):
		printPlace(w, parse.Source, parse.Ranges)
	case errors.As(err, &step):
		a.printStep(w, step)
	}
	fmt.Fprintf(w, "error: %s\n", legible(parser.Redact(strings.TrimSuffix(err.Error(), "\n"))))
	for _, h := range append(a.hints(err), a.pushAgain(err)) {
		if h != "" {
			fmt.Fprintf(w, "hint: %s\n", parser.Redact(h))
		}
	}
	if errors.As(err, &usage) {
		fmt.Fprintf(w, "hint: see %s --help\n", cmp.Or(usage.command, a.command))
		return exitUsage
	}
	var push *export.PushError
	if errors.As(err, &push) {
		return exitPush
	}
	var plan *planError
	if errors.As(err, &plan) {
		return exitPlan
	}
	return exitFailed
}

// hints say what to do about an error; some may be empty.
func (a *app) hints(err error) []string {
	switch full := a.fullDisk(err); {
	case isFull(err):
		return []string{full} // nothing else is the matter
	case errors.Is(err, unix.EMFILE):
		return []string{"raise the limit of open files (ulimit -n): every step that runs at the same time needs some; or run fewer at a time with --max-parallelism"}
	default:
		return []string{hint.Of(err), full}
	}
}

// fullDisk says what to do when there was no room on a disk. A command that fails for
// lack of it may say anything, so the store's disk was looked at when it ended; if
// it had removed by then what it had written, its own words are all there is.
func (a *app) fullDisk(err error) string {
	var command *runner.CommandError
	switch {
	case isFull(err):
		return fullHint(a.lack(err), a.isElsewhere(err))
	case !errors.As(err, &command):
		return ""
	case command.Lack != hostfile.NoLack:
		return fullHint(command.Lack, false)
	case strings.Contains(strings.ToLower(command.Output), unix.ENOSPC.Error()):
		return "the command found no room on a disk or in a tmpfs: if it was the store's disk, make room on it (sinter prune helps), or put the store elsewhere with SINTER_ROOT"
	}
	return ""
}

// lack is what was lacking on the disk that err is about; NoLack when there is enough
// again.
func (a *app) lack(err error) hostfile.Lack {
	var full *hostfile.FullError
	if errors.As(err, &full) {
		return full.Lack
	}
	if root, rootErr := a.root(); rootErr == nil && !a.isElsewhere(err) {
		return hostfile.LackOf(root)
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return hostfile.LackOf(filepath.Dir(file.Path))
	}
	return hostfile.NoLack
}

// fullHint says what to do about a disk that lacks something. elsewhere says that it
// is known not to be the store's.
func fullHint(lack hostfile.Lack, elsewhere bool) string {
	what := map[hostfile.Lack]string{
		hostfile.Bytes:  "the disk is full: make room on it",
		hostfile.Inodes: "the file system has no inodes left, however much room there is (see df -i): remove files on it",
		hostfile.NoLack: "the disk is full, or has no inodes left (see df and df -i): make room on it",
	}[lack]
	if elsewhere {
		return what + ", or choose another place"
	}
	return what + " (sinter prune helps when the store is there), or put the store elsewhere with SINTER_ROOT"
}

// isElsewhere reports whether err is about a file that is known not to be in the
// store.
func (a *app) isElsewhere(err error) bool {
	var file *fs.PathError
	var known *hostfile.FullError // of the store
	root, rootErr := a.root()
	if rootErr != nil || errors.As(err, &known) || !errors.As(err, &file) {
		return false
	}
	path, pathErr := filepath.Abs(file.Path)
	return pathErr == nil && path != root && !strings.HasPrefix(path, root+"/")
}

// isFull reports whether err is about a disk: of user namespaces the kernel says
// the same when there may be no more.
func isFull(err error) bool {
	var refused *userns.RefusedError
	return !errors.As(err, &refused) && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT))
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
			fmt.Fprintf(w, "     |     … (%d more lines)\n", last-n)
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
// comes from files and servers.
func legible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' && r != '\n' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
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
