package parser

import (
	"bytes"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// replaceBase returns the Dockerfile with image in the place of the base image
// of its first FROM, flags and name of the stage being kept. No line changes its
// number. Without a FROM nothing changes: what is wrong then is told later.
func replaceBase(text []byte, image string) ([]byte, error) {
	tree, err := dockerfile.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, n := range tree.AST.Children {
		if !strings.EqualFold(n.Value, command.From) || n.Next == nil {
			continue
		}
		words := append([]string{"FROM"}, n.Flags...)
		words = append(words, image)
		for w := n.Next.Next; w != nil; w = w.Next {
			words = append(words, w.Value)
		}
		lines := strings.SplitAfter(string(text), "\n")
		// An instruction of several lines becomes one, with empty lines
		// after it.
		from := strings.Join(words, " ") + strings.Repeat("\n", n.EndLine-n.StartLine)
		if strings.HasSuffix(lines[n.EndLine-1], "\n") {
			from += "\n"
		}
		return []byte(strings.Join(lines[:n.StartLine-1], "") + from + strings.Join(lines[n.EndLine:], "")), nil
	}
	return text, nil
}
