package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/source"
)

func newVerifyCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check everything in the store",
		Long: `Read everything in the store and compare it with its digests: blobs, layers,
images, downloads.`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if done, err := a.needPrivileges(c.Context()); done || err != nil {
				return err
			}
			return a.verify(c.Context())
		},
	}
}

func (a *app) verify(ctx context.Context) error {
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	env, err := a.collectEnv()
	if err != nil {
		return err
	}
	problems, err := env.Store.Verify(ctx)
	if err != nil {
		return err
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	damaged, err := source.VerifyDownloads(ctx, env.Store.Root())
	if err != nil {
		return err
	}
	lines = append(lines, damaged...)
	images, err := env.Images.List()
	if err != nil {
		return err
	}
	for _, img := range images {
		name := familiar(img.Ref)
		if name == "" {
			name = img.Desc.Digest.String()
		}
		built, err := export.Stored(ctx, env.Store, img.Desc)
		if err != nil {
			lines = append(lines, fmt.Sprintf("image %s: %v", name, err))
			continue
		}
		for _, d := range built.Blobs() {
			// A pulled layer comes when it is needed.
			if !env.Store.HasBlob(d.Digest) && len(built.Origins(d.Digest)) == 0 {
				lines = append(lines, fmt.Sprintf("image %s: its blob %s is missing", name, d.Digest))
			}
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(a.stdout, line); err != nil {
			return err
		}
	}
	if len(lines) > 0 {
		return &hinted{
			err:  fmt.Errorf("%d things in the store are not as they must be", len(lines)),
			hint: "sinter prune --all removes the cache; an image that is damaged has to be built or pulled again",
		}
	}
	_, err = fmt.Fprintf(a.stdout, "everything is as it must be: %d images\n", len(images))
	return err
}
