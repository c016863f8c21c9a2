package parser

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// warnOfBrackets tells of CMD, ENTRYPOINT and VOLUME whose text in brackets is not a
// JSON array: the image is made of it as it stands, and fails when it runs.
func (f *frontend) warnOfBrackets(e *entry) {
	tree, err := dockerfile.Parse(bytes.NewReader(e.text))
	if err != nil {
		return // the frontend tells of it
	}
	for _, n := range tree.AST.Children {
		name := strings.ToLower(n.Value)
		_, text, _ := strings.Cut(strings.TrimSpace(n.Original), " ")
		text = strings.TrimSpace(text)
		if n.Attributes["json"] {
			continue
		}
		taken := "it is run by a shell as it stands"
		switch {
		case name == command.Volume && strings.HasPrefix(text, "["):
			taken = "the brackets are part of the path"
		case (name == command.Cmd || name == command.Entrypoint) && meantAsJSON.MatchString(text):
		default:
			continue
		}
		f.tell(Warning{
			Short:  fmt.Sprintf("the text of %[1]s is not a JSON array, so %[2]s: write %[1]s [\"…\", \"…\"], with double quotes and commas", strings.ToUpper(name), taken),
			Level:  1,
			Source: e.file(), Ranges: places(n.Location()),
		})
	}
}

// meantAsJSON is text that is likely to be meant as an array, and not as the shell's
// commands [ and [[, which a blank follows, and whose arguments no commas separate.
var meantAsJSON = regexp.MustCompile(`^\[([^\s\[]|\s+['"][^'"]*['"]\s*,)`)
