package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/collect"
)

type pruneFlags struct {
	filters []string
	keep    string
	all     bool
	force   bool
	dryRun  bool
}

func newPruneCmd(a *app) *cobra.Command {
	f := &pruneFlags{}
	c := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove what no image needs",
		Long: `Remove images without a name, and all of the cache that no image with a name is
made of: steps, layers, blobs, cache mounts, downloads. With --all pulled images go as well,
and the steps of the images that stay. What running builds and other commands use stays; they
are not waited for.`,
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
			return a.prune(c.Context(), o, f.dryRun)
		},
	}
	c.Flags().BoolVarP(&f.all, "all", "a", false, "also remove pulled images, and the cache of images that stay")
	c.Flags().StringArrayVar(&f.filters, "filter", nil, "only what was last used before: `until=24h` or until=2006-01-02T15:04:05")
	c.Flags().StringVar(&f.keep, "keep-storage", "", "let this `SIZE` of cache stay, such as 10GB: what was used last")
	for _, name := range []string{"reserved-space", "max-used-space"} {
		c.Flags().StringVar(&f.keep, name, "", "`SIZE` as of --keep-storage, in the words of docker buildx")
	}
	c.Flags().BoolVarP(&f.force, "force", "f", false, "do not ask")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be freed")
	return c
}

func (f *pruneFlags) options(now time.Time) (collect.Options, error) {
	o := collect.Options{All: f.all}
	for _, text := range f.filters {
		name, value, _ := strings.Cut(text, "=")
		if name != "until" {
			return o, wrongPrune("filter", text, "the only filter is until")
		}
		until, err := parseUntil(value, now)
		if err != nil {
			return o, wrongPrune("filter", text, untilWanted)
		}
		o.Until = until
	}
	if f.keep != "" {
		n, err := units.FromHumanSize(f.keep)
		if err != nil || n < 0 {
			return o, wrongPrune("keep-storage", f.keep, "want a size such as 10GB")
		}
		// Nothing at all is no limit to what may go.
		o.Keep = n
	}
	return o, nil
}

const untilWanted = "want a duration such as 24h or a time such as 2006-01-02T15:04:05"

func wrongPrune(flag, value, why string) error {
	return &usageError{err: fmt.Errorf("invalid value %q for --%s: %s", value, flag, why), command: "sinter prune"}
}

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
	text := "This will remove images without a name and all cache that no image with a name needs"
	if f.all {
		text = "This will remove images without a name, pulled images and all cache"
	}
	if len(f.filters) > 0 {
		text += ", of that what was last used before " + strings.TrimPrefix(f.filters[len(f.filters)-1], "until=")
	}
	if f.keep != "" {
		text += ", down to " + f.keep + " of cache"
	}
	return text + "."
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
		return false, &hinted{err: errors.New("there is no answer: nothing was removed"), hint: "use --force where nobody can answer"}
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

func (a *app) prune(ctx context.Context, o collect.Options, dryRun bool) error {
	a.reads = dryRun
	env, err := a.collectEnv()
	if err != nil {
		return err
	}
	said := "Total reclaimed space:"
	prune := collect.Prune
	if dryRun {
		said = "Total space to be reclaimed:"
		prune = collect.Preview
	}
	plan, err := prune(ctx, env, o)
	for _, img := range plan.Images {
		name := familiar(img.Ref)
		if img.Ref == "" {
			name = img.Desc.Digest.String()
		}
		if _, err := fmt.Fprintln(a.stdout, "Untagged:", name); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "Steps: %d, layers: %d, blobs: %d, cache mounts: %d, downloads: %d\n%s %s\n",
		collect.Steps(plan.Records), len(plan.Layers), len(plan.Blobs), len(plan.Mounts), len(plan.Downloads), said, humanSize(plan.Freed()))
	return err
}
