package parser

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// command takes in one instruction, as the frontend's dispatch does.
func (v *evaluation) command(s *evaluated, c instructions.Command) error {
	vars := s.vars
	if err := v.name(vars, c); err != nil {
		return err
	}
	switch c := c.(type) {
	case *instructions.ArgCommand:
		return v.arg(vars, c)
	case *instructions.EnvCommand:
		return v.env(s, c)
	case *instructions.RunCommand:
		if err := v.count(vars.size, c); err != nil {
			return err
		}
	case *instructions.ExposeCommand:
		for _, port := range c.Ports {
			if _, _, err := v.expand(vars, v.lex(), port, c); err != nil {
				return err
			}
		}
	}
	if x, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		if err := x.Expand(v.expander(vars, v.lex(), c)); err != nil {
			return err
		}
	}
	if x, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return x.ExpandRaw(v.expander(vars, lex, c))
	}
	return nil
}

func (v *evaluation) expander(vars *variables, lex *shell.Lex, c instructions.Command) instructions.SingleWordExpander {
	return func(word string) (string, error) {
		text, _, err := v.expand(vars, lex, word, c)
		return text, err
	}
}

func (v *evaluation) env(s *evaluated, c *instructions.EnvCommand) error {
	all := imageEnv{}
	var names []string
	for _, kv := range c.Env { // all see the variables from before
		name, knownName, err := v.expand(s.vars, v.lex(), kv.Key, c)
		if err != nil {
			return err
		}
		value, known, err := v.expand(s.vars, v.lex(), kv.Value, c)
		if err != nil {
			return err
		}
		if !knownName { // it may be any of them
			*s.vars, s.env = variables{values: map[string]string{}, open: true}, imageEnv{}
			return nil
		}
		all[name], names = setting{value, known}, append(names, name)
	}
	for _, name := range names {
		if err := s.vars.put(name, all[name]); err != nil {
			return v.refusal(c.Location(), err)
		}
		s.env[name] = all[name]
	}
	return nil
}

func (v *evaluation) arg(vars *variables, c *instructions.ArgCommand) error {
	for _, arg := range c.Args {
		value, known := "", true
		if given, ok := v.args[arg.Key]; ok {
			value = given
		} else if arg.Value != nil {
			var err error
			if value, known, err = v.expand(vars, v.lex(), *arg.Value, c); err != nil {
				return err
			}
		} else if value, ok = v.global.values[arg.Key]; !ok {
			continue
		}
		if err := vars.put(arg.Key, setting{value, known}); err != nil {
			return v.refusal(c.Location(), err)
		}
	}
	return nil
}

// expand returns a word as the frontend makes it, within the limits.
func (v *evaluation) expand(vars *variables, lex *shell.Lex, word string, c instructions.Command) (string, bool, error) {
	text, known, err := vars.expand(lex, word)
	if err != nil {
		return "", false, v.refusal(c.Location(), err)
	}
	if known && strings.ContainsRune(word, '$') {
		if len(text) > maxWord {
			err := &boundError{fmt.Sprintf("a word of %s expands to %d bytes", strings.ToUpper(c.Name()), len(text)), maxWord}
			return "", false, v.refusal(c.Location(), err)
		}
		if err := v.count(len(text), c); err != nil {
			return "", false, err
		}
	}
	return text, known, nil
}

// name takes in the text of an instruction, which the frontend expands to show it. It
// counts only when it is longer than any value may be.
func (v *evaluation) name(vars *variables, c instructions.Command) error {
	s, ok := c.(fmt.Stringer)
	if !ok {
		return nil
	}
	text := s.String()
	if !replaceAll.MatchString(text) && strings.Count(text, "$")*vars.longest <= maxValue {
		return nil
	}
	lex := v.lex()
	lex.RawQuotes, lex.RawEscapes, lex.SkipUnsetEnv = true, true, true
	shown, _, err := vars.expand(lex, text)
	var bound *boundError
	if errors.As(err, &bound) {
		return v.refusal(c.Location(), err)
	}
	if err == nil && len(shown) > maxValue {
		return v.count(len(shown), c)
	}
	return nil
}

func (v *evaluation) count(n int, c instructions.Command) error {
	if v.expanded += n; v.expanded > maxExpanded {
		err := &boundError{fmt.Sprintf("the variables of the Dockerfile expand to %d bytes", v.expanded), maxExpanded}
		return v.refusal(c.Location(), err)
	}
	return nil
}

// refusal makes an Error of one that is about a limit.
func (v *evaluation) refusal(at []dockerfile.Range, err error) error {
	var bound *boundError
	if !errors.As(err, &bound) {
		return err
	}
	return &Error{
		Msg: err.Error(), Err: err, Source: v.e.file(), Ranges: places(at),
		Hint: "put long or many values into a file: COPY it, and let the commands read it",
	}
}
