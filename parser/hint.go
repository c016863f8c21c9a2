package parser

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
)

// manual is where Dockerfile instructions are described, by #name.
const manual = "https://docs.docker.com/reference/dockerfile/"

// hint is the way out of a mistake that the frontend told of. A message that
// has a suggestion in it needs none. d is the Dockerfile; nil when it could not
// be read.
func hint(e *Error, d *entry) string {
	has := func(text string) bool { return strings.Contains(e.Msg, text) }
	switch {
	case has(noMetadata):
		return imageHint(e, d)
	case has("(did you mean"):
		return ""
	case has("invalid SOURCE_DATE_EPOCH"):
		return "it is a number of seconds since 1970, or the word context, or the name of a stage or named context whose time counts"
	case has("target stage "):
		return stageHint("the stages are ", d)
	case has("the Dockerfile cannot be empty"), has("file with no instructions"):
		return "a Dockerfile begins with FROM and an image; FROM scratch begins with nothing"
	case has("failed to read dockerfile") && errors.Is(e.Err, fs.ErrNotExist):
		return "name the Dockerfile with -f, or give the directory that it is in"
	case has("failed to read dockerfile") && errors.Is(e.Err, fs.ErrPermission):
		return "this user may not read it: change that, or name another file with -f"
	case has("no build stage in current context"):
		return "only ARG may stand before the first FROM"
	case has("unknown instruction"):
		return "the instructions are " + instructionNames()
	case has("circular dependency"):
		return "a stage cannot use itself, nor a stage that uses it"
	case has(longLine):
		return "break the line with a backslash, or put the text into a file and COPY it"
	case has(badEscape):
		return "a line is continued by \\ or by `: write # escape=\\ or # escape=`, or leave the line out"
	case has(notUTF8):
		return "save the Dockerfile as UTF-8: it has bytes that are not, as Latin-1 has for letters with accents; build arguments count as well"
	case has("unterminated heredoc"):
		return "end the text with a line that holds nothing but the delimiter"
	case has("base name (") && has("should not be blank"):
		return "the variable in FROM is empty: give it with --build-arg NAME=IMAGE, or a default with ARG NAME=IMAGE before the first FROM"
	case has("failed to parse stage name") && strings.Contains(e.line(), "$"):
		return "a variable in FROM may be empty: give it with --build-arg NAME=VALUE, or a default with ARG NAME=VALUE before the first FROM"
	case has("failed to parse platform"):
		return "a platform is OS/ARCHITECTURE[/VARIANT], such as linux/amd64 or linux/arm/v7"
	case has(noValue):
		_, flag, _ := strings.Cut(e.Msg, noValue)
		return "write the value right after the flag, without a space: " + flag + "=VALUE"
	case has("invalid mount target"):
		return "say where the mount is seen with target=PATH, which is not /"
	case has("invalid stage index"):
		return "stages are counted from 0, and a stage can take from those before it"
	case has("unsupported mount type"):
		return "the types are bind, cache, secret, ssh and tmpfs"
	case has(badPattern):
		return "a pattern of .dockerignore or --exclude has a [ without a ], or ends with a backslash"
	case has(badException):
		return "after ! comes the path that is not to be ignored"
	case e.Msg == "invalid syntax":
		return "a mode is a number such as 755, or symbolic such as u=rwX,go=rX"
	case has("invalid containerPort"), has("invalid proto"):
		return "a port is a number up to 65535 or a range such as 8000-8010, optionally followed by /tcp, /udp or /sctp"
	case has("in HEALTHCHECK (try CMD)"):
		return "write HEALTHCHECK CMD COMMAND, or HEALTHCHECK NONE"
	case has("missing unit in duration"), has("time: invalid duration"):
		return "a duration has units, such as 30s or 1m30s"
	case has("must have two arguments"):
		return "write " + strings.ToUpper(e.instruction()) + " NAME=VALUE"
	case has("lint violation found"):
		return "fix what the warnings say, skip the rules (# check=skip=RULE), or remove error=true"
	}
	return instructionHint(e)
}

// How the frontend begins what it says of an image that cannot be found, and of a flag
// without its value.
const (
	noMetadata = ": failed to resolve source metadata"
	noValue    = "missing a value on flag: "
)

// imageHint is for an image that cannot be found, which may be meant as a stage.
func imageHint(e *Error, d *entry) string {
	name, _, _ := strings.Cut(e.Msg, noMetadata)
	if strings.ContainsAny(name, "/:@") {
		return ""
	}
	return stageHint(name+" is not a stage, so it is taken for an image; the stages are ", d)
}

// stageHint lists the stages of the Dockerfile after intro; "" when none has a
// name, or when they cannot be listed.
func stageHint(intro string, d *entry) string {
	if d == nil {
		return ""
	}
	stages, err := d.stages()
	if err != nil {
		return "" // the list is a help only; what is wrong is told already
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
	return intro + strings.Join(names, ", ")
}

// instructionHint leads to the description of the instruction at the error's
// place.
func instructionHint(e *Error) string {
	name := e.instruction()
	if !slices.Contains(names(), name) {
		return ""
	}
	return fmt.Sprintf("the forms of %s: %s#%s", strings.ToUpper(name), manual, name)
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
	words := strings.Fields(e.line())
	if len(words) == 0 {
		return ""
	}
	return strings.ToLower(words[0])
}

// names are the instructions in lower case, sorted.
func names() []string {
	var all []string
	for name := range command.Commands {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func instructionNames() string { return strings.ToUpper(strings.Join(names(), ", ")) }
