package parser

import (
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// locate finds the instruction that a message is about for which the frontend
// gives no place: those of COPY --from. Nil when it is another message.
func (e *entry) locate(msg string) []Range {
	var wrong func(from string) bool
	switch {
	case strings.Contains(msg, "variable expansion is not supported for --from"):
		wrong = func(from string) bool { return strings.Contains(from, "$") }
	case strings.Contains(msg, "invalid stage index "):
		_, index, _ := strings.Cut(msg, "invalid stage index ")
		wrong = func(from string) bool {
			n, err := strconv.Atoi(from)
			return err == nil && strconv.Itoa(n) == index
		}
	default:
		return nil
	}
	stages, err := e.stages()
	if err != nil {
		return nil // the message is told without a place
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			if c, ok := c.(*instructions.CopyCommand); ok && wrong(c.From) {
				return places(c.Location())
			}
		}
	}
	return nil
}
