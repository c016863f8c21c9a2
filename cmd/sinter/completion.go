package main

import (
	"slices"

	"github.com/spf13/cobra"
)

// addCompletions tells shells which values flags and arguments can have.
func addCompletions(a *app, root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	fixed := map[string][]string{
		"progress": {"auto", "plain", "quiet", "rawjson", "tty"},
		"network":  {"default", "host", "none"},
		"call":     {"build", "check", "outline", "targets"},
		"pull":     {"always", "missing", "never", "newer"},
		"allow":    {"network.host", "security.insecure", "device"},
	}
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE = unknownSubcommand, showHelp
		}
	}
	a.completeAll(root, fixed)
}

// completeAll tells of a command and of all below it. fixed has the values of flags.
func (a *app) completeAll(c *cobra.Command, fixed map[string][]string) {
	takesImages := []string{"tag", "rmi", "rm", "push", "save", "inspect", "history"}
	if slices.Contains(takesImages, c.Name()) && (c.Parent().Parent() == nil || c.Parent().Name() == "image") {
		c.ValidArgsFunction = a.imageNames
	}
	for name, values := range fixed {
		if c.Flags().Lookup(name) != nil {
			// Only an unknown flag is an error.
			_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	for _, sub := range c.Commands() {
		a.completeAll(sub, fixed)
	}
}

// imageNames are the names of the images in the store.
func (a *app) imageNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	a.reads = true
	images, err := a.images()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := images.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, img := range list {
		if img.Ref != "" {
			names = append(names, familiar(img.Ref))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
