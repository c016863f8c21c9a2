package parser

import (
	"bufio"
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// badEscape is in the frontend's words about a wrong escape directive.
const badEscape = "invalid escape token"

// longLine is in its words about a line that it does not take.
const longLine = "dockerfile line greater than max allowed size"

// notUTF8 is in the words about a command that a protocol buffer cannot hold.
const notUTF8 = "invalid UTF-8"

// The words of the frontend's matcher about rules that are none.
const (
	badPattern   = "syntax error in pattern"
	badException = "illegal exclusion pattern"
)

// locate finds the place of mistakes that the frontend tells without one: nil
// when msg is none of these, or when the place cannot be told.
func (e *entry) locate(msg string) []Range {
	switch {
	case strings.Contains(msg, "variable expansion is not supported for --from"):
		return e.find(copyFrom(func(from string) bool { return strings.Contains(from, "$") }))
	case strings.Contains(msg, "invalid stage index "):
		_, index, _ := strings.Cut(msg, "invalid stage index ")
		return e.find(copyFrom(func(from string) bool {
			n, err := strconv.Atoi(from)
			return err == nil && strconv.Itoa(n) == index
		}))
	case strings.Contains(msg, longLine):
		return e.line(func(text string) bool { return len(text) > bufio.MaxScanTokenSize-1 })
	case strings.Contains(msg, notUTF8):
		return e.line(func(text string) bool { return !utf8.ValidString(text) })
	case strings.Contains(msg, badEscape):
		return e.line(regexp.MustCompile(`(?i)^\s*#\s*escape\s*=`).MatchString)
	}
	if name, _, ok := strings.Cut(msg, ": failed to resolve source metadata"); ok {
		from := regexp.MustCompile(`--mount=\S*\bfrom=["']?` + regexp.QuoteMeta(name) + `["']?(,|\s|$)`)
		return e.find(func(c instructions.Command) bool {
			run, ok := c.(*instructions.RunCommand)
			return ok && from.MatchString(run.String())
		})
	}
	return nil
}

// wrongIgnoreRule finds the line of an ignore file that msg is about; nothing
// when msg is about something else.
func (f *frontend) wrongIgnoreRule(msg string) (*SourceFile, []Range) {
	if !strings.Contains(msg, badPattern) && !strings.Contains(msg, badException) {
		return nil, nil
	}
	for _, question := range f.files.questions() {
		dir, name, _ := strings.Cut(strings.TrimPrefix(question, localFile), "\x00")
		data, ok := f.files.answered(question)
		if !ok || !strings.HasPrefix(question, localFile) || !strings.HasSuffix(name, ".dockerignore") {
			continue
		}
		for n, line := range bytes.Split(data, []byte("\n")) {
			rules, err := ignorefile.ReadAll(bytes.NewReader(line))
			if err == nil {
				_, err = patternmatcher.New(rules)
			}
			if err != nil {
				return &SourceFile{Name: f.resolver.IgnoreFile(dir, name), Data: data}, []Range{{Start: Position{Line: n + 1}, End: Position{Line: n + 1}}}
			}
		}
	}
	return nil, nil
}

// copyFrom is true for a COPY whose --from is wrong.
func copyFrom(wrong func(from string) bool) func(instructions.Command) bool {
	return func(c instructions.Command) bool {
		copied, ok := c.(*instructions.CopyCommand)
		return ok && wrong(copied.From)
	}
}

// find is the place of the first command that is wrong.
func (e *entry) find(wrong func(instructions.Command) bool) []Range {
	stages, err := e.stages()
	if err != nil {
		return nil // the message is told without a place
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			if wrong(c) {
				return places(c.Location())
			}
		}
	}
	return nil
}

// line is the first line that is wrong.
func (e *entry) line(wrong func(text string) bool) []Range {
	for n, text := range strings.Split(string(e.text), "\n") {
		if wrong(text) {
			return []Range{{Start: Position{Line: n + 1}, End: Position{Line: n + 1}}}
		}
	}
	return nil
}
