package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/export/layout"
	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
)

type saveFlags struct {
	output, format string
	platform       platformFlag
	referrers      bool
}

func newSaveCmd(a *app) *cobra.Command {
	f := &saveFlags{}
	c := &cobra.Command{
		Use:   "save [flags] IMAGE…",
		Short: "Write images to an archive",
		Long: `Write images to an archive that docker load, podman load and sinter load read,
or to an OCI layout.`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.imageNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.save(c.Context(), f, args)
		},
	}
	c.Flags().StringVarP(&f.output, "output", "o", "", "write to `FILE`, or the directory of oci-dir (default standard output)")
	c.Flags().StringVar(&f.format, "format", "docker", "archive `FORMAT`: docker, oci or oci-dir")
	c.Flags().Var(&f.platform, "platform", "save only this `PLATFORM`")
	c.Flags().BoolVar(&f.referrers, "referrers", false, "add what refers to the images, such as their attestations, to an OCI layout")
	return c
}

// saveOutput is where the flags say that the images go.
func (f *saveFlags) saveOutput(terminal bool) (output.Spec, error) {
	o := output.Spec{Dest: f.output}
	switch f.format {
	case "docker", "docker-archive":
		o.Type = output.Docker
	case "oci", "oci-archive":
		o.Type = output.OCI
	case "oci-dir":
		o.Type, o.Directory = output.OCI, true
	default:
		return o, wrongFlag("format", f.format, "want docker, oci or oci-dir")
	}
	if o.Dest == "" {
		o.Dest = "-"
	}
	if f.referrers && o.Type == output.Docker {
		return o, usage(hint.Add(errors.New("--referrers: a docker archive holds images only"), "add --format oci"))
	}
	if o.Directory && o.Stdout() {
		return o, usagef("--format oci-dir needs --output DIR")
	}
	if o.Stdout() && terminal {
		return o, usage(hint.Add(errors.New("an archive is not written to a terminal"), "name a file with --output FILE"))
	}
	if err := o.CheckDest(); err != nil {
		return o, usage(err)
	}
	return o, nil
}

func (a *app) save(ctx context.Context, f *saveFlags, args []string) error {
	o, err := f.saveOutput(isTerminal(a.stdout))
	if err != nil {
		return err
	}
	return a.readLibrary(ctx, func(lib library) error {
		var images []layout.Named
		for _, arg := range args {
			n, err := lib.find(ctx, arg)
			if err != nil {
				return err
			}
			built, err := lib.whole(n, f.platform.Platform)
			if err != nil {
				return err
			}
			if err := fitsArchive(o, n, built); err != nil {
				return err
			}
			images = addNamed(images, built, n.Ref)
			if !f.referrers {
				continue
			}
			referrers, err := lib.referrers(ctx, n, built)
			if err != nil {
				return err
			}
			for _, r := range referrers {
				images = addNamed(images, r.Entry(), "")
			}
		}
		return export.WriteImages(ctx, a.stdout, images, o, a.warn)
	})
}

// fitsArchive finds images that docker's archives cannot hold.
func fitsArchive(o output.Spec, n namedImage, b *stored.Image) error {
	if o.Type != output.Docker || len(b.Manifests) == 1 {
		return nil
	}
	return hint.Add(
		fmt.Errorf("image %s is for %s, but a docker archive holds one platform", displayName(n), strings.Join(b.Platforms(), ", ")),
		"save one with --platform, or all with --format oci",
	)
}

// addNamed adds an image, or another name to one that is there already.
func addNamed(images []layout.Named, b *stored.Image, name string) []layout.Named {
	i := slices.IndexFunc(images, func(n layout.Named) bool { return n.Digest() == b.Digest() })
	if i < 0 {
		i = len(images)
		images = append(images, layout.Named{Image: b})
	}
	if name != "" && !slices.Contains(images[i].Names, name) {
		images[i].Names = append(images[i].Names, name)
	}
	return images
}
