package parser

import (
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// needTarget marks the stages that the frontend works on: those that the target is
// made of, or all of them, as for a check of the Dockerfile without a target.
func (v *evaluation) needTarget(all bool) {
	switch target := v.e.client.Target; {
	case target != "":
		v.need(v.named[strings.ToLower(target)])
	case all:
		for _, s := range v.stages {
			v.need(s)
		}
	default:
		v.need(v.stages[len(v.stages)-1])
	}
}

// need marks a stage, with its base and the stages that it takes files from.
func (v *evaluation) need(s *evaluated) {
	if s == nil || s.needed {
		return
	}
	s.needed = true
	v.need(s.base)
	v.needSources(s.Stage.Commands)
}

// needSources marks the stages that commands take files from.
func (v *evaluation) needSources(commands []instructions.Command) {
	for _, c := range commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			if i, err := strconv.Atoi(c.From); err != nil {
				v.need(v.named[strings.ToLower(c.From)])
			} else if i >= 0 && i < len(v.stages) {
				v.need(v.stages[i])
			}
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(c) {
				v.need(v.named[strings.ToLower(m.From)])
			}
		}
	}
}
