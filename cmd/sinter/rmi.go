package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/layers/image"
)

func newRmiCmd(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "rmi [flags] IMAGE…",
		Aliases: []string{"untag"},
		Short:   "Remove images",
		Long: `Remove the names of images. An image without any name is not listed any more;
the room that it takes is freed by sinter prune.`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var failed []error
			for _, arg := range args {
				err := a.removeImage(c.Context(), arg, force)
				if force && errors.Is(err, fs.ErrNotExist) {
					continue
				}
				failed = append(failed, err)
			}
			return errors.Join(failed...)
		},
	}
	c.Flags().Bool("no-prune", false, "no effect: what the image was made of is removed by sinter prune alone")
	c.Flags().BoolVarP(&force, "force", "f", false, "also remove an image by its ID that has several names; do not fail when there is none")
	return c
}

func (a *app) removeImage(ctx context.Context, text string, force bool) error {
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	found, err := a.findAll(ctx, text)
	if err != nil {
		return err
	}
	images, err := a.images()
	if err != nil {
		return err
	}
	if len(found) > 1 && !force {
		return &hinted{
			err:  fmt.Errorf("image %s has several names", shortID(found[0].id())),
			hint: "remove them one by one, or all with --force",
		}
	}
	list := make([]image.Image, len(found))
	for i, n := range found {
		list[i] = n.Image
	}
	if err := images.Remove(ctx, list...); err != nil {
		return err
	}
	for _, n := range found {
		if _, err := fmt.Fprintln(a.stdout, "Untagged:", displayName(n)); err != nil {
			return err
		}
	}
	return nil
}
