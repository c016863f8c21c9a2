package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/util/suggest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sinter-build/sinter/layers/hint"
)

// flagMistake makes pflag's errors usage errors, with the flag that was
// probably meant, or the kind of value that is wanted.
func flagMistake(c *cobra.Command, err error) error {
	usage := &usageError{err: err, command: c.CommandPath()}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		reason := invalid.Unwrap()
		if wanted, ok := map[string]string{
			"bool": "true or false", "int": "a whole number", "duration": "a duration such as 300ms or 2s",
		}[invalid.GetFlag().Value.Type()]; ok {
			reason = errors.New("want " + wanted)
		}
		usage.err = fmt.Errorf("invalid value %q for --%s: %w", invalid.GetValue(), invalid.GetFlag().Name, reason)
		return usage
	}
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return usage
	}
	if way := otherWay(c, name); way != "" {
		usage.err = hint.Add(fmt.Errorf("sinter does not have the flag --%s", name), way)
		return usage
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if meant, ok := suggest.Search(name, names, true); ok && meant != name {
		usage.err = hint.Add(err, "did you mean --"+meant+"?")
	}
	return usage
}

// commandMistake is the error for a command that does not exist.
func commandMistake(root *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q", name)
	root.SuggestionsMinimumDistance = 2
	if meant := root.SuggestionsFor(name); len(meant) > 0 {
		err = hint.Add(err, "did you mean sinter "+strings.Join(meant, ", or sinter ")+"?")
	}
	return &usageError{err: err, command: root.Name()}
}

// countMistake says what cobra says of a wrong number of arguments the way
// people do.
func countMistake(c *cobra.Command, args []string) error {
	_, wanted, some := strings.Cut(strings.ReplaceAll(c.Use, " [flags]", ""), " ")
	if !some {
		wanted = "no argument"
	}
	err := fmt.Errorf("%s takes %s, not %d arguments", c.CommandPath(), wanted, len(args))
	switch {
	case len(args) == 0:
		err = fmt.Errorf("%s needs %s", c.CommandPath(), wanted)
	case len(args) == 1:
		err = fmt.Errorf("%s takes %s, not %q", c.CommandPath(), wanted, args[0])
	}
	if c.Name() == "build" && len(args) == 0 {
		err = hint.Add(err, "the current directory as the context: sinter build .")
	}
	return &usageError{err: err, command: c.CommandPath()}
}
