package parser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/dockerfile/command"
)

// manual is where Dockerfile instructions are described, by #name.
const manual = "https://docs.docker.com/reference/dockerfile/"

// hint is the way out of a mistake that the frontend told of. A message that
// has a suggestion in it needs none.
func (f *frontend) hint(ctx context.Context, e *Error) string {
	has := func(text string) bool { return strings.Contains(e.Msg, text) }
	switch {
	case has("(did you mean"):
		return ""
	case has("target stage "):
		return f.stageHint(ctx, "the stages are ")
	case has("the Dockerfile cannot be empty"):
		return "a Dockerfile begins with FROM and an image; FROM scratch begins with nothing"
	case has("failed to read dockerfile") && errors.Is(e.Err, fs.ErrNotExist):
		return "name the Dockerfile with -f, or give the directory that it is in"
	case has("no build stage in current context"):
		return "only ARG may stand before the first FROM"
	case has("unknown instruction"):
		return "the instructions are " + instructions()
	case has("circular dependency"):
		return "a stage cannot use itself, nor a stage that uses it"
	case has("unterminated heredoc"):
		return "end the text with a line that holds nothing but the delimiter"
	case has("unsupported mount type"):
		return "the types are bind, cache, secret, ssh and tmpfs"
	case has("lint violation found"):
		return "fix what the warnings say, skip the rules (# check=skip=RULE), or remove error=true"
	}
	if name, _, ok := strings.Cut(e.Msg, ": failed to resolve source metadata"); ok {
		if strings.ContainsAny(name, "/:@") {
			return ""
		}
		return f.stageHint(ctx, name+" is no stage, so it is taken for an image; the stages are ")
	}
	return instructionHint(e)
}

// stageHint lists the stages of the Dockerfile after intro; "" when none has a
// name.
func (f *frontend) stageHint(ctx context.Context, intro string) string {
	names := f.stages(ctx)
	if len(names) == 0 {
		return ""
	}
	return intro + strings.Join(names, ", ")
}

// stages are the names of the Dockerfile's stages, as the frontend lists them.
func (f *frontend) stages(ctx context.Context) []string {
	f.opts["requestid"] = "frontend.targets"
	res, err := builder.Build(ctx, f)
	if err != nil {
		return nil // the list is a help only; what is wrong is told already
	}
	var list struct {
		Targets []struct {
			Name string `json:"name"`
		} `json:"targets"`
	}
	if err := json.Unmarshal(res.Metadata["result.json"], &list); err != nil {
		return nil
	}
	var names []string
	for _, t := range list.Targets {
		if t.Name != "" {
			names = append(names, t.Name)
		}
	}
	return names
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

// instruction is the first word at the error's place, in lower case.
func (e *Error) instruction() string {
	if e.Source == nil || len(e.Ranges) == 0 {
		return ""
	}
	lines := strings.Split(string(e.Source.Data), "\n")
	at := e.Ranges[0].Start.Line
	if at < 1 || at > len(lines) {
		return ""
	}
	words := strings.Fields(lines[at-1])
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

func instructions() string { return strings.ToUpper(strings.Join(names(), ", ")) }
