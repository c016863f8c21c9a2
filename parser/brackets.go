package parser

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// warnOfBrackets warns of commands and of VOLUME whose text in brackets is not a JSON
// array: the image holds it as it stands, and fails when it runs.
func (f *frontend) warnOfBrackets(e *entry) {
	tree, err := dockerfile.Parse(bytes.NewReader(e.text))
	if err != nil {
		return // the frontend tells of it
	}
	for _, n := range tree.AST.Children {
		name, text := notJSON(n)
		taken := "it is run by a shell as it stands"
		switch {
		case strings.HasSuffix(name, "VOLUME") && strings.HasPrefix(text, "["):
			taken = "the brackets are part of the path"
		case !strings.HasSuffix(name, "VOLUME") && meantAsJSON.MatchString(text):
		default:
			continue
		}
		f.tell(Warning{
			Short:  fmt.Sprintf("the text of %[1]s is not a JSON array, so %[2]s: write %[1]s [\"…\", \"…\"], with double quotes and commas", name, taken),
			Level:  1,
			Source: e.file(), Ranges: places(n.Location()),
		})
	}
}

// notJSON returns the name and the text of an instruction that may have a JSON array,
// and has none; of VOLUME the first word. Other instructions have no text.
func notJSON(n *dockerfile.Node) (name, text string) {
	if strings.EqualFold(n.Value, command.Onbuild) && n.Next != nil && len(n.Next.Children) == 1 {
		name, text = notJSON(n.Next.Children[0])
		return "ONBUILD " + name, text
	}
	name = strings.ToUpper(n.Value)
	arg := n.Next
	switch strings.ToLower(n.Value) {
	case command.Cmd, command.Entrypoint, command.Volume:
	case command.Healthcheck:
		if arg == nil || !strings.EqualFold(arg.Value, command.Cmd) {
			return name, ""
		}
		name, arg = name+" CMD", arg.Next
	default:
		return name, ""
	}
	if arg == nil || n.Attributes["json"] {
		return name, ""
	}
	return name, arg.Value
}

// meantAsJSON matches text that is probably meant as an array. The shell's commands [
// and [[ are followed by a space, and no commas separate their arguments.
var meantAsJSON = regexp.MustCompile(`^\[([^\s\[]|\s+['"][^'"]*['"]\s*,)`)
