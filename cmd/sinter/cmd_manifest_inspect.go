package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/imagetools"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
)

// newManifestInspectCmd is docker's command for what imagetools inspect --raw shows.
func newManifestInspectCmd(a *app) *cobra.Command {
	var insecure bool
	c := &cobra.Command{
		Use:   "inspect [flags] NAME",
		Short: "Print the manifest or index of an image in a registry",
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.inspectManifest(c.Context(), args[0], insecure)
		},
	}
	c.Flags().BoolVar(&insecure, "insecure", false, "speak plain HTTP, or do not verify TLS, with the registry")
	return c
}

func (a *app) inspectManifest(ctx context.Context, name string, insecure bool) error {
	ref, err := registry.ParseRef(name)
	if err != nil {
		return usage(err)
	}
	if insecure {
		a.insecure = append(a.insecure, ref.Host)
	}
	img, err := a.findRemote(ctx, imagetools.Place{Ref: ref})
	if err != nil {
		return err
	}
	indent := "\t"
	if manifest.IsIndex(img.Root().MediaType) {
		indent = "   "
	}
	// As docker indents them.
	var out bytes.Buffer
	if err := json.Indent(&out, img.Data(), "", indent); err != nil {
		return fmt.Errorf("reading the manifest of %s: %w", ref, err)
	}
	_, err = fmt.Fprintln(a.stdout, out.String())
	return err
}
