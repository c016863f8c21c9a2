package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/layers/image"
)

type imagesFlags struct {
	format         string
	filters        []string
	quiet, noTrunc bool
	digests        bool
}

func newImagesCmd(a *app) *cobra.Command {
	f := &imagesFlags{}
	c := &cobra.Command{
		Use:     "images [flags] [NAME[:TAG]]",
		Aliases: []string{"ls"},
		Short:   "List images",
		Long: `List the images in the store: those built, loaded and tagged here, and those
that were pulled.

SIZE is that of the image's blobs, which is what a push sends.`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.listImages(c.Context(), f, args)
		},
	}
	c.Flags().BoolP("all", "a", false, noEffect+"sinter has no intermediate images")
	hide(c.Flags(), "all")
	c.Flags().StringVar(&f.format, "format", "", fmt.Sprintf(formatUsage, "Repository"))
	c.Flags().StringArrayVarP(&f.filters, "filter", "f", nil, "only images that match `FILTER`: dangling=BOOL, reference=PATTERN, label=NAME[=VALUE], before=IMAGE, since=IMAGE or until=24h (repeatable)")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only IDs")
	c.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "print whole IDs")
	c.Flags().BoolVar(&f.digests, "digests", false, "show digests")
	return c
}

func (a *app) listImages(ctx context.Context, f *imagesFlags, args []string) error {
	filter, err := newImageFilter(f.filters, args, time.Now())
	if err != nil {
		return err
	}
	return a.readLibrary(ctx, func(lib library) error {
		if err := filter.readDates(ctx, lib); err != nil {
			return err
		}
		all, err := lib.all(ctx)
		if err != nil {
			return err
		}
		slices.SortStableFunc(all, func(x, y namedImage) int { return y.Updated.Compare(x.Updated) })
		var rows []row
		for _, n := range all {
			config, err := n.config(ctx)
			if err != nil {
				return err
			}
			if filter.matches(n, config) {
				rows = append(rows, imageRow(n, config, f.noTrunc))
			}
		}
		return f.listing().print(a.stdout, rows)
	})
}

func (f *imagesFlags) listing() listing {
	l := listing{format: f.format, quiet: f.quiet, once: true, headers: row{
		"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID",
		"CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE",
		"SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS",
	}, table: []string{"Repository", "Tag", "ID", "CreatedSince", "Size"}}
	if f.digests {
		l.table = slices.Insert(l.table, 2, "Digest")
	}
	return l
}

const (
	none     = "<none>"
	notKnown = "N/A"
)

func imageRow(n namedImage, config ocispec.Image, noTrunc bool) row {
	repository, tag := none, none
	if named, err := reference.ParseNormalizedNamed(n.Ref); err == nil {
		repository = reference.FamiliarName(named)
		if t, ok := named.(reference.Tagged); ok {
			tag = t.Tag()
		}
	}
	id := n.id().String()
	if !noTrunc {
		id = shortID(n.id())
	}
	since, at := notKnown, notKnown
	if config.Created != nil && !config.Created.IsZero() {
		since = units.HumanDuration(time.Since(*config.Created)) + " ago"
		at = config.Created.Local().Format(timeFormat)
	}
	return row{
		"Repository": repository, "Tag": tag, "Digest": n.Desc.Digest.String(), "ID": id,
		"CreatedSince": since, "CreatedAt": at, "Size": humanSize(n.built.Size()),
		// As docker has them where they were not counted.
		"SharedSize": notKnown, "UniqueSize": notKnown, "Containers": notKnown,
	}
}

// timeFormat is docker's.
const timeFormat = "2006-01-02 15:04:05 -0700 MST"

// matchesReference reports whether a pattern is that of a name, with or without
// its tag, as people write it or in full.
func matchesReference(pattern, ref string) bool {
	if ref == "" {
		return false
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return pattern == ref
	}
	return slices.ContainsFunc([]string{
		reference.FamiliarString(named), reference.FamiliarName(named), named.String(), named.Name(),
	}, func(name string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}

// displayName is the name that people know an image by.
func displayName(n namedImage) string {
	if n.Ref != "" {
		return image.Familiar(n.Ref)
	}
	return shortID(n.id())
}
