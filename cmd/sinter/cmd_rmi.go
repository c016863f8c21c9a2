package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
		Long: `Remove the names of images. An image without a name is no longer listed; sinter
prune frees its disk space.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.imageNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withLibrary(c.Context(), func(lib library) error {
				var failed []error
				for _, arg := range args {
					err := lib.remove(c.Context(), a.stdout, arg, force)
					if force && errors.Is(err, fs.ErrNotExist) {
						continue
					}
					failed = append(failed, err)
				}
				return errors.Join(failed...)
			})
		},
	}
	c.Flags().Bool("no-prune", false, noEffect+"only sinter prune frees disk space")
	hide(c.Flags(), "no-prune")
	c.Flags().BoolVarP(&force, "force", "f", false, "remove all names of an image given by its ID; ignore images that are not found")
	return c
}

// remove takes its names from the image that text stands for, and says so to out.
func (lib library) remove(ctx context.Context, out io.Writer, text string, force bool) error {
	found, err := lib.listed(ctx, text)
	if err != nil {
		return err
	}
	if len(found) > 1 && !force {
		return hint.Add(fmt.Errorf("image %s has several names", text), "remove them one by one, or all with --force")
	}
	list := make([]image.Image, len(found))
	for i, n := range found {
		list[i] = n.Image
	}
	if err := lib.Images.Remove(ctx, list...); err != nil {
		return err
	}
	for _, n := range found {
		name := n.Desc.Digest.String()
		if n.Ref != "" || n.built != nil {
			name = displayName(n)
		}
		if _, err := fmt.Fprintln(out, "Untagged:", name); err != nil {
			return err
		}
	}
	return nil
}

// listed returns what text stands for in the list of images. An image that cannot be
// read is known by its names and its digest; it has nothing built then.
func (lib library) listed(ctx context.Context, text string) ([]namedImage, error) {
	if ref, err := registry.ParseRef(text); err == nil && ref.Digest == "" {
		img, err := lib.Images.Find(ref.String())
		if !errors.Is(err, fs.ErrNotExist) {
			return []namedImage{{Image: img}}, err
		}
	}
	found, err := lib.findAll(ctx, text)
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	all, listErr := lib.Images.List()
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
