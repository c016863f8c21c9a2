package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/registry"
)

func newTagCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "tag SOURCE TARGET",
		Short:             "Give an image another name",
		Args:              exactArgs(2),
		ValidArgsFunction: a.imageNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.tag(c.Context(), args[0], args[1])
		},
	}
}

func (a *app) tag(ctx context.Context, from, to string) error {
	name, err := nameToGive(to)
	if err != nil {
		return err
	}
	return a.withLibrary(ctx, func(lib library) error {
		n, err := lib.find(ctx, from)
		if err != nil {
			return err
		}
		return lib.images.Put(ctx, name, n.Desc)
	})
}

// nameToGive is text as a full reference that an image can get.
func nameToGive(text string) (string, error) {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return "", usage(err)
	}
	if ref.Digest != "" {
		return "", usagef("%s: a name that is given cannot have a digest", text)
	}
	return ref.String(), nil
}
