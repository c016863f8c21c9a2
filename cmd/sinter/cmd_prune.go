package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/gc"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

type pruneFlags struct {
	// only is what this command removes.
	only    gc.Part
	filters []string
	labels  labelFilter

	keep, reserved, maxUsed, minFree string

	all, force, dryRun, verbose bool
}

func newPruneCmd(a *app) *cobra.Command {
	f := &pruneFlags{only: gc.Everything}
	c := newPruning(a, f)
	c.Short = "Remove what no image needs"
	c.Long = `Remove images without a name, and all cache that no image with a name needs:
steps, layers, blobs, cache mounts, downloads. With --all also remove pulled
images, and the steps of the images that stay.

` + pruneStays
	f.registerCache(c, "also remove pulled images, and the cache of images that stay")
	return c
}

// newImagePruneCmd is docker's image prune: it leaves the cache alone.
func newImagePruneCmd(a *app) *cobra.Command {
	f := &pruneFlags{only: gc.OnlyImages}
	c := newPruning(a, f)
	c.Short = "Remove images without a name"
	c.Long = `Remove images without a name, and with --all pulled images as well. Other images
with a name stay (sinter rmi removes names), and so does the cache.

` + pruneStays
	c.Flags().BoolVarP(&f.all, "all", "a", false, "also remove pulled images")
	c.Flags().StringArrayVar(&f.filters, "filter", nil, "only images that match `FILTER`: until=24h or until=2006-01-02T15:04:05 (not used since then), label=NAME[=VALUE], label!=NAME[=VALUE] (repeatable)")
	return c
}

// newBuilderPruneCmd is docker's builder prune: it leaves images alone.
func newBuilderPruneCmd(a *app) *cobra.Command {
	f := &pruneFlags{only: gc.OnlyCache}
	c := newPruning(a, f)
	c.Short = "Remove build cache"
	c.Long = `Remove all cache that no image needs: steps, layers, blobs, cache mounts,
downloads. With --all also remove the steps of images. Images stay.

` + pruneStays
	f.registerCache(c, "also remove the steps of images")
	return c
}

const pruneStays = `What running builds and other commands use stays; prune does not wait for them.`

func newPruning(a *app, f *pruneFlags) *cobra.Command {
	c := &cobra.Command{
		Use:  "prune [flags]",
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := f.options(time.Now())
			if err != nil {
				return err
			}
			// It is the other process that asks.
			in, _ := a.stdin.(*os.File)
			if done, err := a.reexec(c.Context(), in); done || err != nil {
				return err
			}
			if !f.force && !f.dryRun {
				if sure, err := a.confirm(c.Context(), f.warning()); !sure || err != nil {
					return err
				}
			}
			return a.prune(c.Context(), o, f)
		},
	}
	c.Flags().BoolVarP(&f.force, "force", "f", false, "do not ask")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be freed")
	return c
}

// registerCache registers the flags of commands that remove cache.
func (f *pruneFlags) registerCache(c *cobra.Command, all string) {
	s := c.Flags()
	s.BoolVarP(&f.all, "all", "a", false, all)
	s.StringArrayVar(&f.filters, "filter", nil, "only cache that matches `FILTER`: until=24h or until=2006-01-02T15:04:05 (not used since then)")
	s.StringVar(&f.reserved, "reserved-space", "", "always keep up to `SIZE` of cache, such as 10GB: what was used last")
	s.StringVar(&f.keep, "keep-storage", "", "same as --reserved-space `SIZE`")
	s.StringVar(&f.maxUsed, "max-used-space", "", "keep at most `SIZE` of cache: what was used last")
	s.StringVar(&f.minFree, "min-free-space", "", "remove cache only until `SIZE` of the disk is free")
	s.BoolVar(&f.verbose, "verbose", false, "list what is removed")
}

// options are what the flags of a command ask for.
func (f *pruneFlags) options(now time.Time) (gc.Options, error) {
	o := gc.Options{All: f.all, Only: f.only}
	for _, text := range f.filters {
		name, value, _ := strings.Cut(text, "=")
		switch {
		case name == "until":
			until, err := parseUntil(value, now)
			if err != nil {
				return o, wrongFlag("filter", text, untilWanted)
			}
			if o.Until.IsZero() || until.Before(o.Until) { // all filters must let it go
				o.Until = until
			}
		case f.only != gc.OnlyImages:
			return o, wrongFlag("filter", text, "the only filter is until")
		case name == "label":
			f.labels.with = append(f.labels.with, value)
		case name == "label!":
			f.labels.without = append(f.labels.without, value)
		default:
			return o, wrongFlag("filter", text, "the filters are until, label and label!")
		}
	}
	for _, size := range []struct {
		flag, text string
		to         *int64
	}{
		{"keep-storage", f.keep, &o.Keep.Reserved},
		{"reserved-space", f.reserved, &o.Keep.Reserved},
		{"max-used-space", f.maxUsed, &o.Keep.MaxUsed},
		{"min-free-space", f.minFree, &o.Keep.MinFree},
	} {
		if size.text == "" {
			continue
		}
		n, err := units.FromHumanSize(size.text)
		if err != nil || n < 0 {
			return o, wrongFlag(size.flag, size.text, "want a size such as 10GB")
		}
		*size.to = n
	}
	return o, nil
}

const untilWanted = "want a duration such as 24h or a time such as 2006-01-02T15:04:05"

// parseUntil reads a duration before now, or a time.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 {
			return time.Time{}, errors.New("the duration is negative")
		}
		return now.Add(-d), nil
	}
	var t time.Time
	var err error
	for _, format := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err = time.ParseInLocation(format, text, time.Local); err == nil {
			return t, nil
		}
	}
	return t, err
}

func (f *pruneFlags) warning() string {
	text := map[gc.Part][2]string{
		gc.Everything: {"images without a name and all cache that no image with a name needs", "images without a name, pulled images and all cache"},
		gc.OnlyImages: {"images without a name", "images without a name and pulled images"},
		gc.OnlyCache:  {"all cache that no image needs", "all cache"},
	}[f.only]
	what := text[0]
	if f.all {
		what = text[1]
	}
	what = "This will remove " + what
	if len(f.filters) > 0 {
		what += ", as far as it matches " + strings.Join(f.filters, " and ")
	}
	for _, limit := range []struct{ size, text string }{
		{f.keep, "at least %s of cache stay"}, {f.reserved, "at least %s of cache stay"},
		{f.maxUsed, "at most %s of cache stay"}, {f.minFree, "cache goes until %s of the disk are free"},
	} {
		if limit.size != "" {
			what += "; " + fmt.Sprintf(limit.text, limit.size)
		}
	}
	return what + "."
}

// confirm asks; only yes means yes.
func (a *app) confirm(ctx context.Context, text string) (bool, error) {
	fmt.Fprintf(a.stderr, "%s\nAre you sure? [y/N] ", text)
	line, err := readLine(ctx, a.stdin)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		fmt.Fprintln(a.stderr)
		return false, hint.Add(errors.New("no answer, so nothing was removed"), "use --force where nobody can answer")
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

func (a *app) prune(ctx context.Context, o gc.Options, f *pruneFlags) error {
	a.reads = f.dryRun
	lib, err := a.library()
	if err != nil {
		return err
	}
	if !f.labels.isEmpty() {
		o.Match = func(img image.Image) bool { return hasLabels(ctx, lib.Store, img, f.labels) }
	}
	if o.Keep.MinFree > 0 {
		if o.Keep.Free, err = hostfile.Free(lib.Store.Root()); err != nil {
			return err
		}
	}
	prune := gc.Prune
	if f.dryRun {
		prune = gc.Preview
	}
	plan, err := prune(ctx, lib.Env, o)
	if sayErr := a.sayUntagged(plan.Images); err != nil || sayErr != nil {
		return cmp.Or(err, sayErr)
	}
	if f.verbose {
		gone := &gc.Stock{Records: plan.Records, Layers: plan.Layers, Mounts: plan.Mounts, Downloads: plan.Downloads}
		if err := pieceListing("", "ID", "Type", "Size", "LastUsed", "Description").print(a.stdout, pieces(gone, plan)); err != nil {
			return err
		}
	}
	return a.sayFreed(plan, f)
}

func (a *app) sayUntagged(images []gc.Image) error {
	for _, img := range images {
		name := image.Familiar(img.Ref)
		if img.Ref == "" {
			name = img.Desc.Digest.String()
		}
		if _, err := fmt.Fprintln(a.stdout, "Untagged:", name); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) sayFreed(plan *gc.Plan, f *pruneFlags) error {
	said := "Total reclaimed space:"
	if f.dryRun {
		said = "Total space to be reclaimed:"
	}
	var counts string
	if f.only != gc.OnlyImages {
		counts = fmt.Sprintf("Steps: %d, layers: %d, blobs: %d, cache mounts: %d, downloads: %d\n",
			gc.Steps(plan.Records), len(plan.Layers), len(plan.Blobs), len(plan.Mounts), len(plan.Downloads))
	}
	_, err := fmt.Fprintf(a.stdout, "%s%s %s\n", counts, said, humanSize(plan.Freed()))
	return err
}

// hasLabels reports whether an image is one that the filter asks for. One that cannot
// be read is not.
func hasLabels(ctx context.Context, s *store.Store, img image.Image, labels labelFilter) bool {
	built, err := stored.Open(ctx, s, img.Desc)
	if err != nil {
		return false
	}
	config, err := namedImage{img, built}.config(ctx)
	return err == nil && labels.matches(config.Config.Labels)
}
