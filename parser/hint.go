package parser

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// manual is where Dockerfile instructions are described, by #name.
const manual = "https://docs.docker.com/reference/dockerfile/"

// A mistake is a kind of error of the frontend, known by its message.
type mistake struct {
	// text is a part of the message; when, if not nil, must hold as well. advise may
	// return "" where the cause has a hint.
	text string
	when func(*Error) bool
	// hint says what to do, or advise does. Without either the hint leads to the
	// instruction's description. d is the Dockerfile; nil when it could not be read.
	hint   string
	advise func(e *Error, d *entry) string
	// find finds the place, which the frontend does not give. misplaced says that it
	// gives the first line instead.
	find      func(d *entry, msg string) []Range
	misplaced bool
	// ignoreRule says that the place is in an ignore file.
	ignoreRule bool
}

// What the frontend says before or after a name: of an image that it cannot find, of a
// flag without its value, and of a stage by a number that no stage has.
const (
	noMetadata = ": failed to resolve source metadata"
	noValue    = "missing a value on flag: "
	stageIndex = "invalid stage index "
)

// mistakes are those that are known. Of several that fit, the first counts.
var mistakes = []mistake{
	{when: refused, advise: func(*Error, *entry) string { return "" }, find: findMountFrom},
	{text: noMetadata, advise: imageHint, find: findMountFrom},
	{text: "mutated by policy to non-image", hint: "in place of an image a source policy can have only another image"},
	{text: "(did you mean", advise: func(*Error, *entry) string { return "" }},
	{text: "invalid SOURCE_DATE_EPOCH", hint: "it is a number of seconds since 1970, or the word context, or the name of a stage or named context whose time counts"},
	{text: "target stage ", advise: func(_ *Error, d *entry) string { return stageHint("", d) }},
	{text: "the Dockerfile cannot be empty", hint: startHint},
	{text: "file with no instructions", hint: startHint},
	{text: "failed to read dockerfile", when: caused(fs.ErrNotExist), hint: "name the Dockerfile with -f, or give the directory that it is in"},
	{text: "failed to read dockerfile", when: caused(fs.ErrPermission), hint: "this user may not read it: change that, or name another file with -f"},
	{text: "no build stage in current context", hint: "only ARG may stand before the first FROM"},
	{text: "unknown instruction", advise: func(*Error, *entry) string {
		return "the instructions are " + strings.ToUpper(strings.Join(instructionNames(), ", "))
	}},
	{text: "circular dependency", hint: "a stage cannot use itself, nor a stage that uses it"},
	{text: "dockerfile line greater than max allowed size", hint: "break the line with a backslash, or put the text into a file and COPY it",
		find: findLine(func(text string) bool { return len(text) >= bufio.MaxScanTokenSize }), misplaced: true},
	{text: "invalid escape token", hint: "a line is continued by \\ or by `: write # escape=\\ or # escape=`, or leave the line out",
		find: findLine(isEscape), misplaced: true},
	{text: "invalid UTF-8", hint: "save the Dockerfile as UTF-8: it has bytes that are not, as Latin-1 has for letters with accents; build arguments count as well",
		find: findLine(func(text string) bool { return !utf8.ValidString(text) })},
	{text: "unterminated heredoc", hint: "end the text with a line that holds nothing but the delimiter"},
	{text: "should not be blank", hint: "the variable in FROM is empty: give it with --build-arg NAME=IMAGE, or a default with ARG NAME=IMAGE before the first FROM"},
	{text: "failed to parse stage name", when: func(e *Error) bool { return strings.Contains(e.line(), "$") },
		hint: "a variable in FROM may be empty: give it with --build-arg NAME=VALUE, or a default with ARG NAME=VALUE before the first FROM"},
	{text: "failed to parse platform", hint: "a platform is OS/ARCHITECTURE[/VARIANT], such as linux/amd64 or linux/arm/v7"},
	{text: noValue, advise: func(e *Error, _ *entry) string {
		_, flag, _ := strings.Cut(e.Msg, noValue)
		return "write the value right after the flag, without a space: " + flag + "=VALUE"
	}},
	{text: "invalid mount target", hint: "say where the mount is seen with target=PATH, which is not /"},
	{text: stageIndex, hint: "stages are counted from 0, and a stage can take from those before it", find: findStageIndex},
	{text: "variable expansion is not supported for --from", find: func(d *entry, _ string) []Range {
		return d.findCopy(func(from string) bool { return strings.Contains(from, "$") })
	}},
	{text: "unsupported mount type", hint: "the types are bind, cache, secret, ssh and tmpfs"},
	{text: "syntax error in pattern", hint: "a pattern of .dockerignore or --exclude has a [ without a ], or ends with a backslash", ignoreRule: true},
	{text: "illegal exclusion pattern", hint: "after ! comes the path that is not to be ignored", ignoreRule: true},
	{text: "invalid syntax", when: func(e *Error) bool { return e.Msg == "invalid syntax" }, hint: "a mode is a number such as 755, or symbolic such as u=rwX,go=rX"},
	{text: "invalid containerPort", hint: portHint},
	{text: "invalid proto", hint: portHint},
	{text: "in HEALTHCHECK (try CMD)", hint: "write HEALTHCHECK CMD COMMAND, or HEALTHCHECK NONE"},
	{text: "missing unit in duration", hint: durationHint},
	{text: "time: invalid duration", hint: durationHint},
	{text: "must have two arguments", advise: func(e *Error, _ *entry) string { return "write " + strings.ToUpper(e.instruction()) + " NAME=VALUE" }},
	{text: "lint violation found", hint: "fix what the warnings say, skip the rules (# check=skip=RULE), or remove error=true"},
}

const (
	startHint    = "a Dockerfile begins with FROM and an image; FROM scratch begins with nothing"
	portHint     = "a port is a number up to 65535 or a range such as 8000-8010, optionally followed by /tcp, /udp or /sctp"
	durationHint = "a duration has units, such as 30s or 1m30s"
)

// caused reports of an error whether it is by another.
func caused(by error) func(*Error) bool { return func(e *Error) bool { return errors.Is(e.Err, by) } }

// mistake returns what is known of an error; the zero value for nothing.
func (e *Error) mistake() mistake {
	for _, m := range mistakes {
		if strings.Contains(e.Msg, m.text) && (m.when == nil || m.when(e)) {
			return m
		}
	}
	return mistake{}
}

// hint says what to do about a mistake; "" when its message does. d is the
// Dockerfile; nil when it could not be read.
func hint(e *Error, d *entry) string {
	switch m := e.mistake(); {
	case m.advise != nil:
		return m.advise(e, d)
	case m.hint != "":
		return m.hint
	}
	name := e.instruction()
	if !slices.Contains(instructionNames(), name) {
		return ""
	}
	return fmt.Sprintf("the forms of %s: %s#%s", strings.ToUpper(name), manual, name)
}

// locate gives the error its place where the frontend does not, if it can be found.
func (e *Error) locate(d *entry) {
	m := e.mistake()
	if m.find == nil || len(e.Ranges) > 0 && !m.misplaced {
		return
	}
	if found := m.find(d, e.Msg); found != nil {
		e.Source, e.Ranges = d.file(), found
	}
}

// imageHint is for an image that cannot be found, which may be meant as a stage.
func imageHint(e *Error, d *entry) string {
	name, _, _ := strings.Cut(e.Msg, noMetadata)
	if strings.ContainsAny(name, "/:@") {
		return ""
	}
	return stageHint(name+" is not a stage, so it is taken for an image; ", d)
}

// stageHint lists the stages of the Dockerfile after intro; "" when none has a
// name, or when they cannot be listed.
func stageHint(intro string, d *entry) string {
	if d == nil {
		return ""
	}
	stages, err := d.stages()
	if err != nil {
		return "" // the message alone will do
	}
	var names []string
	for _, s := range stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	if len(names) == 1 {
		return intro + "the only named stage is " + names[0]
	}
	return intro + "the stages are " + strings.Join(names, ", ")
}

// line is the first line at the error's place.
func (e *Error) line() string {
	if e.Source == nil || len(e.Ranges) == 0 {
		return ""
	}
	lines := strings.Split(string(e.Source.Data), "\n")
	at := e.Ranges[0].Start.Line
	if at < 1 || at > len(lines) {
		return ""
	}
	return lines[at-1]
}

// instruction is the first word at the error's place, in lower case.
func (e *Error) instruction() string {
	name, _, _ := strings.Cut(strings.Join(strings.Fields(e.line()), " "), " ")
	return strings.ToLower(name)
}

// instructionNames are in lower case, sorted.
func instructionNames() []string {
	var all []string
	for name := range command.Commands {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// findMountFrom finds the RUN that mounts from an image that cannot be found.
func findMountFrom(d *entry, msg string) []Range {
	name, _, _ := strings.Cut(msg, noMetadata)
	return d.find(func(c instructions.Command) bool {
		run, ok := c.(*instructions.RunCommand)
		return ok && slices.ContainsFunc(instructions.GetMounts(run), func(m *instructions.Mount) bool { return m.From == name })
	})
}

// findStageIndex finds the COPY from a stage by a number that no stage has.
func findStageIndex(d *entry, msg string) []Range {
	_, index, _ := strings.Cut(msg, stageIndex)
	return d.findCopy(func(from string) bool {
		n, err := strconv.Atoi(from)
		return err == nil && strconv.Itoa(n) == index
	})
}

// isEscape reports whether a line is an escape directive.
func isEscape(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	return strings.EqualFold(strings.Join(strings.Fields(name), ""), "#escape")
}

// findCopy is the place of the first COPY whose --from is wrong.
func (e *entry) findCopy(wrong func(from string) bool) []Range {
	return e.find(func(c instructions.Command) bool {
		copied, ok := c.(*instructions.CopyCommand)
		return ok && wrong(copied.From)
	})
}

// find is the place of the first command that is wrong.
func (e *entry) find(wrong func(instructions.Command) bool) []Range {
	stages, err := e.stages()
	if err != nil {
		return nil // the message has no place then
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

// findLine returns what finds the first line that is wrong.
func findLine(wrong func(text string) bool) func(*entry, string) []Range {
	return func(d *entry, _ string) []Range {
		for n, text := range strings.Split(string(d.text), "\n") {
			if wrong(text) {
				return oneLine(n + 1)
			}
		}
		return nil
	}
}

func oneLine(n int) []Range { return []Range{{Start: Position{Line: n}, End: Position{Line: n}}} }

// wrongIgnoreRule finds the line of an ignore file that a mistake is about; nothing
// when it is about something else.
func (f *frontend) wrongIgnoreRule(m mistake) (*SourceFile, []Range) {
	if !m.ignoreRule {
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
				return &SourceFile{Name: f.resolver.IgnoreFile(dir, name), Data: data}, oneLine(n + 1)
			}
		}
	}
	return nil, nil
}
