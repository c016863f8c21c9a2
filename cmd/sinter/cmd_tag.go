package main

import (
	"context"
	"fmt"

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
		return lib.Images.Put(ctx, name, n.Desc)
	})
}

// nameToGive is text as a full reference that an image can get: "app" is
// docker.io/library/app:latest.
func nameToGive(text string) (string, error) {
	ref, err := registry.ParseRef(text)
	if err == nil && ref.Digest != "" {
		err = fmt.Errorf("%s: a name that is given cannot have a digest", text)
	}
	if err != nil {
		return "", usage(err)
	}
	return ref.String(), nil
}

// tagNames are the names that --tag gives.
func tagNames(tags []string) ([]string, error) {
	var names []string
	for _, t := range tags {
		name, err := nameToGive(t)
		if err != nil {
			return nil, badFlag("tag", t, err)
		}
		names = append(names, name)
	}
	return names, nil
}
