package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// groupAnnotation is the annotation of a flag with the title that it stands under in
// the help.
const groupAnnotation = "group"

// flagGroup adds flags that stand under a title in the help.
func flagGroup(to *pflag.FlagSet, title string, register func(*pflag.FlagSet)) {
	s := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.SortFlags = false
	register(s)
	s.VisitAll(func(f *pflag.Flag) { f.Annotations = map[string][]string{groupAnnotation: {title}} })
	to.AddFlagSet(s)
}

// printUsage prints what follows a command's description in its help.
func printUsage(c *cobra.Command) error {
	var b strings.Builder
	section := func(title, text string) {
		if text != "" {
			fmt.Fprintf(&b, "\n%s:\n%s\n", title, strings.TrimRight(text, "\n"))
		}
	}
	fmt.Fprintf(&b, "Usage: %s\n", c.UseLine())
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "       %s COMMAND\n", c.CommandPath())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "Aliases: %s\n", c.NameAndAliases())
	}
	section("Examples", c.Example)
	var commands strings.Builder
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(&commands, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
		}
	}
	section("Commands", commands.String())
	width := helpWidth(c.OutOrStdout())
	for _, g := range flagGroups(c.LocalFlags()) {
		section(g.title, flagUsages(g.flags, width))
	}
	section("Flags of all commands", flagUsages(c.InheritedFlags(), width))
	_, err := io.WriteString(c.OutOrStdout(), b.String())
	return err
}

// optionalValue is how pflag shows a flag that needs no value: --pull POLICY[=always].
var optionalValue = regexp.MustCompile(`(--[a-z-]+) ([A-Z]+)\[=[a-z]+\]`)

// flagUsages describes flags, and those that need no value as --pull[=POLICY].
func flagUsages(s *pflag.FlagSet, width int) string {
	return optionalValue.ReplaceAllStringFunc(s.FlagUsagesWrapped(width), func(text string) string {
		return fmt.Sprintf("%-*s", len(text), optionalValue.ReplaceAllString(text, "$1[=$2]"))
	})
}

type titledFlags struct {
	title string
	flags *pflag.FlagSet
}

// flagGroups are the flags by the titles that they stand under, in the order in which
// they were registered.
func flagGroups(all *pflag.FlagSet) []titledFlags {
	var groups []titledFlags
	byTitle := map[string]*pflag.FlagSet{}
	all.VisitAll(func(f *pflag.Flag) {
		title := "Flags"
		if named := f.Annotations[groupAnnotation]; len(named) > 0 {
			title = named[0]
		}
		if byTitle[title] == nil {
			byTitle[title] = pflag.NewFlagSet("", pflag.ContinueOnError)
			byTitle[title].SortFlags = false
			groups = append(groups, titledFlags{title, byTitle[title]})
		}
		byTitle[title].AddFlag(f)
	})
	return groups
}

// helpWidth is how many columns a help text has: those of the terminal, up to 120, or
// else 80.
func helpWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return min(max(width, 60), 120)
		}
	}
	return 80
}
