package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/hint"
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
	c.Flags().BoolVarP(&force, "force", "f", false, "remove all names of an image given by its ID; do not fail if an image is not there")
	return c
}

func (a *app) removeImage(ctx context.Context, text string, force bool) error {
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	images, err := a.images()
	if err != nil {
		return err
	}
	found, err := a.listed(ctx, images, text)
	if err != nil {
		return err
	}
	if len(found) > 1 && !force {
		return hint.Add(
			fmt.Errorf("image %s has several names", text),
			"remove them one by one, or all with --force",
		)
	}
	list := make([]image.Image, len(found))
	for i, n := range found {
		list[i] = n.Image
	}
	if err := images.Remove(ctx, list...); err != nil {
		return err
	}
	for _, n := range found {
		name := n.Desc.Digest.String()
		if n.Ref != "" || n.built != nil {
			name = displayName(n)
		}
		if _, err := fmt.Fprintln(a.stdout, "Untagged:", name); err != nil {
			return err
		}
	}
	return nil
}

// listed returns what text stands for in the list of images. An image that cannot be
// read is known by its names and its digest; it has nothing built then.
func (a *app) listed(ctx context.Context, images *image.Images, text string) ([]namedImage, error) {
	if ref, err := registry.ParseRef(text); err == nil && ref.Digest == "" {
		img, err := images.Find(ref.String())
		if !errors.Is(err, fs.ErrNotExist) {
			return []namedImage{{Image: img}}, err
		}
	}
	found, err := a.findAll(ctx, text)
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	all, listErr := images.List()
	if listErr != nil {
		return nil, listErr
	}
	for _, img := range all {
		if img.Desc.Digest.String() == text || img.Desc.Digest.Encoded() == text {
			found = append(found, namedImage{Image: img})
		}
	}
	if len(found) == 0 {
		return nil, err
	}
	return found, nil
}
