package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/export/annotation"
	"github.com/sinter-build/sinter/builder/imagetools"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
)

type createFlags struct {
	showFlags
	tags, files, annotations  []string
	platforms                 platformsFlag
	join, dryRun, preferIndex bool
	metadataFile              string
}

func newImagetoolsCreateCmd(a *app) *cobra.Command {
	f := &createFlags{}
	c := &cobra.Command{
		Use:   "create [flags] SOURCE…",
		Short: "Join images in registries and OCI layouts to one",
		Long: `Join images in registries and OCI layouts to one: an index of images for single
platforms, or a copy.

A SOURCE is NAME[:TAG|@DIGEST] or oci-layout://DIR[:TAG|@DIGEST]; or a digest, or
a descriptor as JSON, if the repository is clear. The new index has the manifests
of all sources that are indexes. What the target's repository lacks is copied
there, and so is what refers to the images: attestations and signatures.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.createImage(c.Context(), f, args)
		},
	}
	s := c.Flags()
	s.StringArrayVarP(&f.tags, "tag", "t", nil, "name the new image `NAME[:TAG]` (repeatable)")
	s.StringArrayVarP(&f.files, "file", "f", nil, "read a source from `FILE` (repeatable)")
	s.StringArrayVar(&f.annotations, "annotation", nil, "add the annotation `LEVEL:NAME=VALUE`, where LEVEL is index or manifest-descriptor")
	s.VarP(&f.platforms, "platform", "p", "take only these `PLATFORMS`")
	s.BoolVar(&f.join, "append", false, "add the sources to the image that the first tag is now")
	s.BoolVar(&f.dryRun, "dry-run", false, "print the new index or manifest and push nothing")
	s.BoolVar(&f.preferIndex, "prefer-index", true, "make an index also of a single manifest, rather than copy it")
	s.StringVar(&f.metadataFile, "metadata-file", "", "write what was made, as JSON, to `FILE`")
	f.register(c)
	return c
}

func (a *app) createImage(ctx context.Context, f *createFlags, args []string) error {
	tags, sources, err := f.read(ctx, args)
	if err != nil {
		return err
	}
	opts, err := f.options()
	if err != nil {
		return err
	}
	client, err := a.registry()
	if err != nil {
		return err
	}
	img, err := imagetools.Join(ctx, client, sources, opts)
	if err != nil {
		return orLayout(err, args...)
	}
	if f.dryRun {
		_, err := fmt.Fprintf(a.stdout, "%s\n", img.Data())
		return err
	}
	referrers, err := img.AllReferrers(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		a.warn(fmt.Sprintf("the image is made without all that refers to its sources: %v", err))
	}
	for _, tag := range tags {
		pushed := 0
		err := a.showing(ctx, f.showFlags, "pushing "+tag.String(), func(report func(progress.Update)) error {
			err := client.Push(ctx, tag.String(), img, report)
			if err == nil {
				if pushed, err = imagetools.PushReferrers(ctx, client, referrers, tag); err != nil {
					err = fmt.Errorf("%s is pushed, but not all that refers to it: %w", tag, err)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
		if !f.quiet {
			fmt.Fprintf(a.stdout, "%s: digest: %s\n", tag, img.Root().Digest)
		}
		if !f.quiet && pushed > 0 {
			fmt.Fprintf(a.stdout, "%s: referrers: %d\n", tag, pushed)
		}
	}
	if f.quiet {
		fmt.Fprintln(a.stdout, img.Root().Digest)
	}
	return f.writeMetadata(ctx, img, tags)
}

// read are the places of the new image and the sources, in order.
func (f *createFlags) read(ctx context.Context, args []string) (tags []registry.Ref, sources []imagetools.Source, err error) {
	if len(args)+len(f.files) == 0 {
		return nil, nil, usagef("no sources given")
	}
	if len(f.tags) == 0 && (!f.dryRun || f.join) {
		return nil, nil, usage(hint.Add(errors.New("the new image has no name"), "give it one with --tag, or look at it with --dry-run"))
	}
	for _, text := range f.tags {
		if strings.HasPrefix(text, layoutScheme) {
			return nil, nil, usage(hint.Add(
				fmt.Errorf("invalid value %q for --tag: sinter imagetools create only pushes to registries", text),
				"name a repository, or make a layout with sinter build -o type=oci,dest=DIR,tar=false",
			))
		}
		if _, err := nameToGive(text); err != nil {
			return nil, nil, err
		}
		ref, err := registry.ParseRef(text)
		if err != nil {
			return nil, nil, err
		}
		tags = append(tags, ref)
	}
	if f.join {
		sources = append(sources, imagetools.Source{Place: imagetools.Place{Ref: tags[0]}})
	}
	var texts []string
	for _, name := range f.files {
		data, err := hostfile.ReadStream(ctx, name, hostfile.MaxText)
		if err != nil {
			return nil, nil, err
		}
		texts = append(texts, string(data))
	}
	for _, text := range append(texts, args...) {
		s, err := parseSource(text)
		if err != nil {
			return nil, nil, usage(err)
		}
		sources = append(sources, s)
	}
	return tags, sources, placeSources(sources, tags)
}

func (f *createFlags) options() (imagetools.Options, error) {
	o := imagetools.Options{KeepManifest: !f.preferIndex, Platforms: f.platforms}
	for _, text := range f.annotations {
		list, err := annotation.Parse(text)
		if err != nil {
			return o, usage(err)
		}
		o.Annotations = append(o.Annotations, list...)
	}
	return o, nil
}

func (f *createFlags) writeMetadata(ctx context.Context, img *imagetools.Image, tags []registry.Ref) error {
	if f.metadataFile == "" {
		return nil
	}
	var names []string
	for _, t := range tags {
		if !slices.Contains(names, t.Repository()) {
			names = append(names, t.Repository())
		}
	}
	slices.Sort(names)
	data, err := json.MarshalIndent(map[string]any{
		"containerimage.descriptor": img.Root(),
		"containerimage.digest":     img.Root().Digest,
		"image.name":                strings.Join(names, ","),
	}, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(ctx, f.metadataFile, data)
}
