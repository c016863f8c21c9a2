package main

import (
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
	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/parser"
)

// The exit codes, as the help of the root command and the README give them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// report prints err, with the place, the reason and the way out, and picks the
// exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var quiet *exitError
	if errors.As(err, &quiet) {
		return quiet.code
	}
	if isInterrupted(ctx, err) {
		fmt.Fprintln(a.stderr, "error: interrupted")
		return exitInterrupted
	}
	var usage *usageError
	var parse *parser.Error
	var step *builder.StepError
	switch {
	case errors.As(err, &parse):
		printPlace(a.stderr, parse.Source, parse.Ranges)
	case errors.As(err, &step):
		a.printStep(step)
	}
	fmt.Fprintf(a.stderr, "error: %s\n", legible(parser.Redact(strings.TrimSuffix(err.Error(), "\n"))))
	hints := []string{hint(err), a.fullDisk(err), tooManyFiles(err)}
	if isFull(err) {
		hints = hints[1:] // nothing else is the matter
	}
	for _, h := range hints {
		if h != "" {
			fmt.Fprintf(a.stderr, "hint: %s\n", parser.Redact(h))
		}
	}
	if errors.As(err, &usage) {
		fmt.Fprintf(a.stderr, "hint: see %s --help\n", usage.command)
		return exitUsage
	}
	return exitFailed
}

// tooManyFiles says what to do when this process may open no more files.
func tooManyFiles(err error) string {
	if errors.Is(err, unix.EMFILE) {
		return "raise the limit of open files (ulimit -n): every step that runs at the same time needs some"
	}
	return ""
}

// leastRoom is what a disk must have free, in bytes, not to count as full.
const leastRoom = 1 << 20

// fullDisk is the way out when the disk is full. A command that fails for want
// of room may say anything, so the store's disk is looked at.
func (a *app) fullDisk(err error) string {
	const hint = "the disk is full: make room on it (sinter prune helps when the store is there), or put the store elsewhere with SINTER_ROOT"
	if isFull(err) {
		if a.isElsewhere(err) {
			return "the disk is full: make room on it, or choose another place"
		}
		return hint
	}
	var command *builder.CommandError
	var disk unix.Statfs_t
	if !errors.As(err, &command) || a.layers == nil || unix.Statfs(a.layers.Root(), &disk) != nil {
		return ""
	}
	if disk.Bavail*uint64(disk.Bsize) < leastRoom {
		return hint
	}
	return ""
}

// isElsewhere reports whether err is about a file that is known not to be in the
// store.
func (a *app) isElsewhere(err error) bool {
	var file *fs.PathError
	root, rootErr := a.root()
	if rootErr != nil || !errors.As(err, &file) {
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

// hint is the way out that the innermost part of err knows.
func hint(err error) string {
	var found string
	for err != nil {
		if h, ok := err.(interface{ HintText() string }); ok && h.HintText() != "" {
			found = h.HintText()
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				if h := hint(e); h != "" {
					return h
				}
			}
			return found
		default:
			return found
		}
	}
	return found
}

// printStep shows the end of what a failing command printed, unless the display
// has done so, and the lines of the Dockerfile that it comes from.
func (a *app) printStep(e *builder.StepError) {
	const rule = "------"
	var command *builder.CommandError
	if a.silent && errors.As(e, &command) && command.Output != "" {
		fmt.Fprintf(a.stderr, "%s\n > %s:\n%s\n%s\n", rule, e.Node.Name, strings.TrimRight(command.Output, "\n"), rule)
	}
	if len(e.Node.Pos) > 0 && e.Graph != nil {
		printPlace(a.stderr, &e.Graph.Files[e.Node.Pos[0].File], e.Node.Pos)
	}
}

// context lines around the place of an error.
const aroundLines = 2

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
