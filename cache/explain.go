package cache

import (
	"maps"
	"path"
	"slices"
	"strings"
)

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
	pairs := paired(now.Parts, before.Parts)
	list, instruction := instructionReason(now, before, pairs)
	told := map[string]bool{} // where files come from
	other := slices.ContainsFunc(pairs, func(d pair) bool { return d.is.Name == "operation" && d.is.Value != d.was.Value })
	selects := selections(pairs)
	for _, d := range pairs {
		switch {
		case d.is.Value == d.was.Value || d.is.Kind == Does:
		case other && (d.is.Kind == Setting || d.is.Kind == Variable || d.is.stands()):
			// RUN has other parts than COPY, and calls what it stands on otherwise.
		case d.is.Kind == Content && d.lacksOne():
			// What names other files is told of: the instruction, or a mount.
		case d.is.Kind == Content && instruction && (selects || d.is.From != d.was.From):
			// It takes other files, or takes them from another place.
		case d.is.Kind == Content && !told[d.is.From]:
			told[d.is.From] = true
			if r := filesReason(pairs, d.is.From, listing); r.Changed > 0 || !instruction {
				list = append(list, r)
			}
		case d.is.Kind == Content:
		case d.is.stands() && instruction && d.lacksOne():
			// With --link it stands on nothing.
		default:
			list = append(list, d.reason())
		}
	}
	if other {
		is, was := root(now.Parts), root(before.Parts)
		if d := (pair{is, was}); is.Value != was.Value && is.stands() && was.stands() {
			list = append(list, d.reason())
		}
	}
	if is, was := order(now.Parts), order(before.Parts); len(list) == 0 && is != was {
		list = append(list, Reason{Kind: SettingChanged, Name: "order of variables", Is: is, Was: was})
	}
	if len(list) == 0 {
		// Such as values whose hidden forms are the same.
		list = append(list, Reason{Kind: InstructionChanged})
	}
	return list
}

// stands reports whether a step stands on what the part is about.
func (p Part) stands() bool { return p.Kind == Base || p.Kind == After }

// root is the part for that on which a step stands; the zero Part if it stands on nothing.
func root(parts []Part) Part {
	if i := slices.IndexFunc(parts, Part.stands); i >= 0 {
		return parts[i]
	}
	return Part{}
}

// order names variables in their order, which counts.
func order(parts []Part) string {
	var names []string
	for _, p := range parts {
		if p.Kind == Variable {
			names = append(names, strings.TrimPrefix(p.Name, "variable "))
		}
	}
	return strings.Join(names, " ")
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
			n := 0
			for _, d := range paired(now.Parts, s.Parts) {
				if d.is.Value != d.was.Value {
					n++
				}
			}
			if !ok || n < least {
				near, least, ok = s, n, true
			}
		}
	}
	return near, ok
}

// pair is a part as it is and as it was; the value of one that is not there is absent.
type pair struct{ is, was Part }

func (d pair) lacksOne() bool { return d.is.Value == absent || d.was.Value == absent }

// paired puts parts of the same name together: one that comes several times in order.
func paired(now, before []Part) (list []pair) {
	rest := map[string][]Part{}
	for _, p := range before {
		rest[p.Name] = append(rest[p.Name], p)
	}
	for _, p := range now {
		same := rest[p.Name]
		if len(same) == 0 {
			list = append(list, pair{is: p, was: Part{Name: p.Name, Kind: p.Kind, Value: absent}})
			continue
		}
		rest[p.Name] = same[1:]
		list = append(list, pair{is: p, was: same[0]})
	}
	for _, p := range before {
		if gone := rest[p.Name]; len(gone) > 0 {
			list = append(list, pair{is: Part{Name: p.Name, Kind: p.Kind, Value: absent}, was: gone[0]})
			rest[p.Name] = gone[1:]
		}
	}
	return list
}

// instructionReason says how an instruction changed: as it is written, or else in what it
// comes to. changed reports whether it is written differently.
func instructionReason(now, before BuildStep, pairs []pair) (list []Reason, changed bool) {
	_, is := now.instruction()
	_, was := before.instruction()
	changed = is != was && now.Text != "" && before.Text != ""
	i := slices.IndexFunc(pairs, func(d pair) bool {
		return d.is.Kind == Does && d.is.Does() != d.was.Does()
	})
	if i < 0 && !changed {
		return nil, false
	}
	switch {
	case is != was:
		return []Reason{{Kind: InstructionChanged, Is: is, Was: was}}, true
	case pairs[i].lacksOne():
		return []Reason{{Kind: InstructionChanged}}, true
	}
	return []Reason{{Kind: InstructionChanged, Name: pairs[i].is.Name, Is: pairs[i].is.Does(), Was: pairs[i].was.Does()}}, false
}

// Does is what a part says that a step does. Which of the step's inputs an action of COPY
// is about is left out: inputs are told of by themselves.
func (p Part) Does() string {
	if !strings.HasPrefix(p.Name, "action ") {
		return p.Value
	}
	var b strings.Builder
	for line := range strings.Lines(p.Value) {
		if name, _, _ := strings.Cut(line, " "); !slices.Contains([]string{"on", "from", "output"}, name) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// selections reports whether fields differ that say which files a step reads.
func selections(pairs []pair) bool {
	selecting := func(p Part) (list []string) {
		for line := range strings.Lines(p.Value) {
			if name, _, _ := strings.Cut(line, " "); slices.Contains([]string{"source", "path", "include", "exclude"}, name) {
				list = append(list, line)
			}
		}
		return list
	}
	return slices.ContainsFunc(pairs, func(d pair) bool {
		return (d.is.Kind == Does || d.is.Kind == Setting) && !slices.Equal(selecting(d.is), selecting(d.was))
	})
}

// reason explains a difference of anything but an instruction and files.
func (d pair) reason() Reason {
	switch {
	case d.is.Kind == Variable:
		return Reason{Kind: VariableChanged, Name: d.is.Name, Was: d.was.Value, Is: d.is.Value}
	case d.is.Kind == Base && d.was.Kind == Base:
		return Reason{Kind: BaseChanged, Was: d.was.From, Is: d.is.From}
	case d.is.Kind == Base || d.is.Kind == After:
		return d.after()
	}
	return Reason{Kind: SettingChanged, Name: d.is.Name, Was: d.was.Value, Is: d.is.Value}
}

func (d pair) after() Reason {
	is, was := d.is.stoodOn(), d.was.stoodOn()
	if is == was {
		return Reason{Kind: StepChanged, Name: ShortName(d.is.From)}
	}
	return Reason{Kind: StepChanged, Name: d.is.Name, Is: is, Was: was}
}

// stoodOn is what reasons call that on which a step stands.
func (p Part) stoodOn() string {
	_, text := SplitName(p.From)
	switch {
	case text == "":
		return "nothing"
	case p.Kind == Base:
		return "the base image"
	}
	return text
}

// filesReason says which of the files changed that a step reads from one place.
func filesReason(pairs []pair, from string, listing func(string) Listing) Reason {
	r := Reason{Kind: FilesChanged, From: ShortName(from)}
	is, was := Listing{}, Listing{}
	known := true
	add := func(to Listing, p Part) {
		if p.Value == absent {
			return
		}
		one := listing(strings.TrimSpace(p.Value))
		known = known && one != nil
		maps.Copy(to, one)
	}
	for _, d := range pairs {
		if d.is.Kind == Content && d.is.From == from {
			add(is, d.is)
			add(was, d.was)
		}
	}
	if !known {
		return r
	}
	changes := is.Changes(was)
	r.Total = is.total(was, changes)
	if from != "" {
		for i := range changes {
			changes[i].Path = path.Join("/", changes[i].Path)
		}
	}
	r.Files, r.Changed = changes[:min(len(changes), shownFiles)], len(changes)
	return r
}
