package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/builder/stored"
)

type sbomFlags struct {
	format   string
	platform platformFlag
	noTrunc  bool
}

func newSBOMCmd(a *app) *cobra.Command {
	f := &sbomFlags{}
	c := &cobra.Command{
		Use:   "sbom [flags] IMAGE",
		Short: "List the packages in an image",
		Long: `List the packages in an image of the store, by the layers that brought them, the lowest
first, with the instruction that made the layer.

The program sinter-sbom finds them; it is beside sinter, or on PATH. What it found in
a layer is kept for other images with the same layer. To keep the list with the image,
use sinter build --sbom=true.`,
		Args:              exactArgs(1),
		ValidArgsFunction: a.imageNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.sbom(c.Context(), f, args[0])
		},
	}
	c.Flags().StringVarP(&f.format, "format", "f", "", fmt.Sprintf(formatUsage, "Name")+", or the whole document: spdx or cyclonedx")
	c.Flags().Var(&f.platform, "platform", "look into this `PLATFORM` of the image (default this machine's, or the first)")
	c.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "print instructions in full")
	return c
}

// document is the format of the whole document; "" if packages are to be listed.
func (f *sbomFlags) document() sbom.Format {
	if d := sbom.Format(f.format); d == sbom.SPDX || d == sbom.CycloneDX {
		return d
	}
	return ""
}

func (a *app) sbom(ctx context.Context, f *sbomFlags, text string) error {
	return a.readImage(ctx, text, func(lib library, n namedImage) error {
		_, m, err := n.shown(f.platform.Platform)
		if err != nil {
			return err
		}
		if err := lib.Store.Fetch(ctx, m.Layers); err != nil {
			return err
		}
		var config ocispec.Image
		if err := n.readConfig(ctx, m, &config); err != nil {
			return err
		}
		name := displayName(n)
		format := f.document()
		// With the image's own time the document is the same each time, and is found again.
		r := sbom.Request{Store: lib.Store.Root(), Format: format, Created: m.Created.UTC().Truncate(time.Second)}
		if format == "" {
			r.Format = sbom.SPDX
		}
		r.Subjects = []sbom.Subject{{Name: name, Layers: m.Layers, Architecture: m.Platform.Architecture}}
		answer, err := sbom.Scan(ctx, r)
		if err != nil {
			return err
		}
		for _, text := range answer.Warnings {
			a.warn(text)
		}
		if format != "" {
			_, err := fmt.Fprintf(a.stdout, "%s\n", answer.Documents[name])
			return err
		}
		l := listing{format: f.format, headers: row{
			"Name": "PACKAGE", "Version": "VERSION", "Type": "TYPE", "PURL": "PURL", "Path": "PATH",
			"Layer": "LAYER", "Digest": "DIGEST", "CreatedBy": "CREATED BY",
		}, table: []string{"Layer", "Name", "Version", "Type", "CreatedBy"}}
		return l.print(a.stdout, f.rows(answer.Packages[name], m, config.History))
	})
}

// rows are packages by their layers. The first layer has the number 1.
func (f *sbomFlags) rows(packages []sbom.Package, m stored.Manifest, history []ocispec.History) []row {
	var instructions []string
	for _, h := range history {
		if !h.EmptyLayer {
			instructions = append(instructions, strings.Join(strings.Fields(h.CreatedBy), " "))
		}
	}
	packages = slices.Clone(packages)
	slices.SortStableFunc(packages, func(a, b sbom.Package) int { return a.Layer - b.Layer })
	rows := make([]row, len(packages))
	for i, p := range packages {
		by := notKnown
		if p.Layer < len(instructions) {
			by = instructions[p.Layer]
		}
		if !f.noTrunc {
			by = cut(by, commandWidth)
		}
		rows[i] = row{
			"Name": p.Name, "Version": p.Version, "Type": p.Type, "PURL": p.PURL, "Path": p.Path,
			"Layer": strconv.Itoa(p.Layer + 1), "Digest": m.Layers[p.Layer].Descriptor.Digest.String(), "CreatedBy": by,
		}
	}
	return rows
}
