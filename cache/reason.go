package cache

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Reason is one reason why a step ran.
type Reason struct {
	Kind ReasonKind `json:"kind"`
	// Name is what changed: a variable, a setting, a step.
	Name string `json:"name,omitempty"`
	// Was and Is are the values before and now; "\x00" for one that was not set.
	Was string `json:"was,omitempty"`
	Is  string `json:"is,omitempty"`
	// Files are some of those that changed, of which there are Changed, of Total that
	// the step reads. From is the step that they come from; "" for the user's own.
	Files   []Change `json:"files,omitempty"`
	Changed int      `json:"changed,omitempty"`
	Total   int      `json:"total,omitempty"`
	From    string   `json:"from,omitempty"`
}

// ReasonKind says what a reason is about.
type ReasonKind string

// The kinds of reasons.
const (
	FirstTime          ReasonKind = "first"
	NewStep            ReasonKind = "new"
	NoCacheAsked       ReasonKind = "no-cache"
	Pruned             ReasonKind = "pruned"
	FailedBefore       ReasonKind = "failed-before"
	FilesChanged       ReasonKind = "files"
	VariableChanged    ReasonKind = "variable"
	BaseChanged        ReasonKind = "base"
	StepChanged        ReasonKind = "after"
	InstructionChanged ReasonKind = "instruction"
	SettingChanged     ReasonKind = "setting"
)

// Hidden is what stands for a value that may be a secret. What follows it tells such
// values apart.
const Hidden = "(hidden) "

// String is the reason as people read it: one line without control characters, whatever
// a record or the name of a file holds.
func (r Reason) String() string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return unicode.ReplacementChar
		}
		return c
	}, r.text())
}

func (r Reason) text() string {
	switch r.Kind {
	case FirstTime:
		return "first build of this step here"
	case NewStep:
		return "new instruction"
	case NoCacheAsked:
		if r.Name != "" {
			return "--no-cache for " + r.Name
		}
		return "--no-cache"
	case Pruned:
		return "its layer was pruned"
	case FailedBefore:
		return "it did not succeed in the last build"
	case FilesChanged:
		return r.files()
	case VariableChanged:
		return r.change(r.Name)
	case BaseChanged:
		return r.base()
	case StepChanged:
		if r.Was != "" {
			return fmt.Sprintf("it now follows %s, it followed %s", r.Is, r.Was)
		}
		return fmt.Sprintf("%s changed before it", r.Name)
	case InstructionChanged:
		switch {
		case r.Name != "":
			return "instruction changed" + r.lines()
		case r.Was == "":
			return "instruction changed"
		}
		return "instruction changed, it was: " + firstLine(r.Was)
	}
	return r.setting()
}

// change says how the value of a variable changed.
func (r Reason) change(name string) string {
	if r.hidden() {
		return name + " changed (its value is not shown)"
	}
	return fmt.Sprintf("%s: %s → %s", name, quoted(r.Was), quoted(r.Is))
}

func (r Reason) hidden() bool { return strings.Contains(r.Is+r.Was, Hidden) }

// setting says how a setting changed: one of a single value, or one of several fields
// with a line for each, such as a mount.
func (r Reason) setting() string {
	switch {
	case r.Was == absent:
		return added(r.Name, r.Is) + " added"
	case r.Is == absent:
		return added(r.Name, r.Was) + " removed"
	case strings.HasSuffix(r.Is+r.Was, "\n"):
		return r.Name + " changed" + r.lines()
	}
	return r.change(r.Name)
}

// added is what a setting is called that was not there, or is not there any more.
func added(name, value string) string {
	if value == "" || strings.Contains(value, "\n") || strings.Contains(value, Hidden) {
		return name
	}
	return name + " " + quoted(value)
}

// lines says which lines of a value are not as they were.
func (r Reason) lines() string {
	if r.hidden() {
		return " (what changed is not shown)"
	}
	was, is := splitLines(r.Was), splitLines(r.Is)
	gone, come := without(was, is), without(is, was)
	switch {
	case gone == "" && come == "":
		return ""
	case gone == "":
		return ": now also " + come
	case come == "":
		return ": no longer " + gone
	}
	return ": " + gone + " → " + come
}

// splitLines splits the value of a part into lines: its own, and those that are quoted in
// one of them, such as the lines of a script.
func splitLines(value string) (list []string) {
	for line := range strings.Lines(value) {
		text := unquote.Replace(strings.TrimSuffix(line, "\n"))
		if _, quoted, ok := strings.Cut(strings.TrimSuffix(line, "\n"), `"`); ok {
			if field, err := strconv.Unquote(`"` + quoted); err == nil && strings.Contains(field, "\n") {
				text = field
			}
		}
		list = append(list, strings.Split(text, "\n")...)
	}
	return list
}

// without returns those of the lines that others lack, as far as they fit in one line.
func without(lines, others []string) string {
	left := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		return strings.TrimSpace(line) == "" || slices.Contains(others, line)
	})
	return firstLine(strings.Join(left, ", "))
}

// absent stands for a value that is not there.
const absent = "\x00"

func quoted(value string) string {
	const most = 100 // bytes
	switch {
	case value == absent:
		return "not set"
	case len(value) > most:
		return fmt.Sprintf("%q…", value[:most])
	}
	return fmt.Sprintf("%q", value)
}

func (r Reason) base() string {
	name, is := splitDigest(r.Is)
	was, wasDigest := splitDigest(r.Was)
	switch {
	case name != was:
		return fmt.Sprintf("base image is now %s, was %s", shortBase(r.Is), shortBase(r.Was))
	case is == wasDigest:
		return fmt.Sprintf("base image %s changed", name)
	}
	return fmt.Sprintf("base image %s is now %s, was %s", name, shortDigest(is), shortDigest(wasDigest))
}

// firstLine is the beginning of an instruction.
func firstLine(text string) string {
	const most = 120 // bytes
	line, _, more := strings.Cut(text, "\n")
	if len(line) > most {
		line, more = strings.ToValidUTF8(line[:most], ""), true
	}
	if more {
		line += " …"
	}
	return line
}

func splitDigest(ref string) (name, digest string) {
	name, digest, _ = strings.Cut(ref, "@")
	return name, digest
}

// shortBase is the name of a base image with the beginning of its digest.
func shortBase(ref string) string {
	name, digest := splitDigest(ref)
	switch {
	case ref == "":
		return "scratch"
	case digest == "":
		return name
	}
	return name + "@" + shortDigest(digest)
}

func shortDigest(d string) string {
	const shown = len("sha256:") + 12
	if len(d) > shown {
		return d[:shown] + "…"
	}
	return d
}

func (r Reason) files() string {
	prefix := ""
	if r.From != "" {
		prefix = r.From + " gave other files: "
	}
	if len(r.Files) == 0 {
		return prefix + "files changed" // nothing is known of those before
	}
	var list []string
	for _, c := range r.Files {
		if c.What == "added" || c.What == "gone" {
			list = append(list, legible(c.Path)+" "+c.What)
		} else {
			list = append(list, fmt.Sprintf("%s changed (%s)", legible(c.Path), c.What))
		}
	}
	if more := r.Changed - len(r.Files); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("%s%s, %d of %s", prefix, strings.Join(list, ", "), r.Changed, plural(r.Total, "file"))
}

// legible is a path as it is, or quoted if it holds what cannot be shown, such as a line
// break.
func legible(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return strconv.Quote(name)
	}
	return name
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// Text joins reasons to one line.
func Text(list []Reason) string {
	var parts []string
	for _, r := range list {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, "; ")
}
