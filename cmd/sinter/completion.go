package main

import (
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/layers/image"
)

// fixCompletionCmd makes cobra's command take a shell that it does not know for a mistake.
func fixCompletionCmd(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = unknownSubcommand, showHelp
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
			names = append(names, image.Familiar(img.Ref))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
