package cache

import (
	"fmt"
	"strings"
)

// Reason is one reason why a step ran.
type Reason struct {
	Kind ReasonKind `json:"kind"`
	// Name is what changed: a variable, a setting, a step.
	Name string `json:"name,omitempty"`
	// Was and Is are the values before and now.
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

// String is the reason as people read it.
func (r Reason) String() string {
	switch r.Kind {
	case FirstTime:
		return "first build of this step here"
	case NewStep:
		return "new instruction"
	case NoCacheAsked:
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
		if r.Was == "" {
			return "instruction changed"
		}
		return "instruction changed, it was: " + firstLine(r.Was)
	}
	return r.change(r.Name)
}

// change says how a named value changed.
func (r Reason) change(name string) string {
	switch {
	case strings.HasPrefix(r.Is, Hidden) || strings.HasPrefix(r.Was, Hidden):
		return name + " changed (its value is not shown)"
	case strings.Contains(r.Is+r.Was, "\n"):
		return name + " changed"
	}
	return fmt.Sprintf("%s: %s → %s", name, quoted(r.Was), quoted(r.Is))
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
		return fmt.Sprintf("base image is now %s, was %s", r.Is, r.Was)
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
			list = append(list, c.Path+" "+c.What)
		} else {
			list = append(list, fmt.Sprintf("%s changed (%s)", c.Path, c.What))
		}
	}
	if more := r.Changed - len(r.Files); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("%s%s, %d of %s", prefix, strings.Join(list, ", "), r.Changed, plural(r.Total, "file"))
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

// shownFiles is how many files a reason names.
const shownFiles = 3

// Explain says why a step has another key than it had before. listing returns what a
// content digest was made of, nil if that is not known.
func Explain(now, before BuildStep, listing func(digest string) Listing) []Reason {
	if now.Key == before.Key {
		if before.Verdict.finished() {
			return []Reason{{Kind: Pruned}}
		}
		return []Reason{{Kind: FailedBefore}}
	}
	changed := differences(now.Parts, before.Parts)
	var list []Reason
	instruction := false
	for _, d := range changed {
		if d.is.Kind == Does && !instruction {
			list, instruction = append(list, instructionReason(now, before)), true
		}
	}
	told := map[string]bool{} // where files come from
	for _, d := range changed {
		switch {
		case d.is.Kind == Does:
		case d.is.Kind != Content:
			list = append(list, d.reason())
		case instruction && (d.is.Value == absent || d.was.Value == absent):
			// The instruction names other sources.
		case !told[d.is.From]:
			told[d.is.From] = true
			list = append(list, filesReason(now.Parts, before.Parts, d.is.From, listing))
		}
	}
	if len(list) == 0 {
		// Such as values whose hidden forms are the same.
		list = append(list, Reason{Kind: InstructionChanged})
	}
	return list
}

// Nearest returns the step of some builds, the newest first, that says the same as one and
// differs from it in the fewest parts.
func Nearest(now BuildStep, builds []Build) (near BuildStep, ok bool) {
	_, text := now.instruction()
	least := 0
	for _, b := range builds {
		for _, s := range b.Steps {
			if _, was := s.instruction(); was != text || len(s.Parts) == 0 {
				continue
			}
			if n := len(differences(now.Parts, s.Parts)); !ok || n < least {
				near, least, ok = s, n, true
			}
		}
	}
	return near, ok
}

// difference is a part that is not as it was.
type difference struct{ is, was Part }

// differences compares parts by their names: one that comes several times is compared
// in order.
func differences(now, before []Part) (list []difference) {
	rest := map[string][]Part{}
	for _, p := range before {
		rest[p.Name] = append(rest[p.Name], p)
	}
	for _, p := range now {
		same := rest[p.Name]
		if len(same) == 0 {
			list = append(list, difference{is: p, was: Part{Name: p.Name, Kind: p.Kind, Value: absent}})
			continue
		}
		rest[p.Name] = same[1:]
		if same[0].Value != p.Value {
			list = append(list, difference{is: p, was: same[0]})
		}
	}
	for _, p := range before {
		if gone := rest[p.Name]; len(gone) > 0 {
			list = append(list, difference{is: Part{Name: p.Name, Kind: p.Kind, Value: absent}, was: gone[0]})
			rest[p.Name] = gone[1:]
		}
	}
	return list
}

// instructionReason says how an instruction changed: as it is written, or in what its
// variables are expanded to.
func instructionReason(now, before BuildStep) Reason {
	_, is := now.instruction()
	_, was := before.instruction()
	if is == was {
		_, is = SplitName(now.Name)
		_, was = SplitName(before.Name)
	}
	if is == was {
		return Reason{Kind: InstructionChanged}
	}
	return Reason{Kind: InstructionChanged, Is: is, Was: was}
}

// reason explains a difference of anything but an instruction and files.
func (d difference) reason() Reason {
	switch d.is.Kind {
	case Variable:
		return Reason{Kind: VariableChanged, Name: d.is.Name, Was: d.was.Value, Is: d.is.Value}
	case Base:
		return Reason{Kind: BaseChanged, Was: d.was.From, Is: d.is.From}
	case After:
		return d.after()
	}
	return Reason{Kind: SettingChanged, Name: d.is.Name, Was: d.was.Value, Is: d.is.Value}
}

func (d difference) after() Reason {
	_, is := SplitName(d.is.From)
	_, was := SplitName(d.was.From)
	if is == was {
		return Reason{Kind: StepChanged, Name: ShortName(d.is.From)}
	}
	return Reason{Kind: StepChanged, Name: d.is.Name, Is: orNothing(is), Was: orNothing(was)}
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// filesReason says which of the files changed that a step reads from one place.
func filesReason(now, before []Part, from string, listing func(string) Listing) Reason {
	r := Reason{Kind: FilesChanged, From: ShortName(from)}
	known := true
	all := func(parts []Part) Listing {
		joined := Listing{}
		for _, p := range parts {
			if p.Kind != Content || p.From != from {
				continue
			}
			one := listing(strings.TrimSpace(p.Value))
			known = known && one != nil
			for path, f := range one {
				joined[path] = f
			}
		}
		return joined
	}
	is, was := all(now), all(before)
	if !known {
		return r
	}
	changes := is.Changes(was)
	r.Total = is.total(was, changes)
	if from != "" {
		for i := range changes {
			changes[i].Path = "/" + changes[i].Path
		}
	}
	r.Files, r.Changed = changes[:min(len(changes), shownFiles)], len(changes)
	return r
}
