package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers/hint"
)

type buildsFlags struct {
	format         string
	quiet, noTrunc bool
}

func newBuildsCmd(a *app) *cobra.Command {
	f := &buildsFlags{}
	c := &cobra.Command{
		Use:   "builds [flags]",
		Short: "List builds, and show what their steps printed",
		Long: `List the builds whose record is kept: the last hundred, for thirty days at most.

sinter explain BUILD says what each step did and why; a BUILD is an ID, the beginning
of one, or the name of an image for its last build.`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.readBuilds(c.Context(), func(records *cache.Store) error { return a.builds(records, f) })
		},
	}
	c.Flags().StringVar(&f.format, "format", "", fmt.Sprintf(formatUsage, "ID"))
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only IDs")
	c.Flags().BoolVar(&f.noTrunc, "no-trunc", false, "print everything in full")
	c.AddCommand(newBuildLogsCmd(a))
	return c
}

func newBuildLogsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logs BUILD [STEP]",
		Short: "Show what the commands of a build printed",
		Long: `Show what the commands of a build printed, of all steps or of one.

A STEP is its number in sinter explain, or a part of its name.`,
		Example: `  sinter builds logs mx1hwr0t
  sinter builds logs mx1hwr0t 3
  sinter builds logs mx1hwr0t 'npm ci'`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.readBuilds(c.Context(), func(records *cache.Store) error { return a.buildLogs(c.Context(), records, args) })
		},
	}
}

// readBuilds calls do with the records of builds, for a command that keeps nothing.
func (a *app) readBuilds(ctx context.Context, do func(*cache.Store) error) error {
	a.reads = true
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	records, err := a.cache()
	if err != nil {
		return err
	}
	return do(records)
}

func (a *app) builds(records *cache.Store, f *buildsFlags) error {
	list, err := records.Builds()
	if err != nil {
		return err
	}
	var rows []row
	for _, b := range list {
		rows = append(rows, f.row(b))
	}
	l := listing{format: f.format, quiet: f.quiet, headers: row{
		"ID": "BUILD", "Result": "RESULT", "Created": "CREATED", "CreatedAt": "CREATED AT", "Duration": "DURATION", "Ran": "RAN",
		"Cached": "CACHED", "Name": "NAME", "Context": "CONTEXT", "Dockerfile": "DOCKERFILE", "Image": "IMAGE",
	}, table: []string{"ID", "Name", "Result", "Created", "Duration", "Ran", "Cached", "Context"}}
	return l.print(a.stdout, rows)
}

func (f *buildsFlags) row(b cache.Build) row {
	ran, cached := 0, 0
	for _, s := range b.Steps {
		switch s.Verdict {
		case cache.Ran, cache.RanAndFailed:
			ran++
		case cache.WasCached:
			cached++
		}
	}
	name := notKnown
	if len(b.Tags) > 0 {
		name = b.Tags[0]
	}
	context := b.Of.Context
	if runes := []rune(context); !f.noTrunc && len(runes) > commandWidth {
		context = "…" + string(runes[len(runes)-commandWidth+1:])
	}
	return row{
		"ID": b.ID, "Result": string(b.Result), "Created": units.HumanDuration(time.Since(b.Started)) + " ago",
		"CreatedAt": b.Started.Format(time.RFC3339), "Duration": shortDuration(b.Took), "Ran": strconv.Itoa(ran), "Cached": strconv.Itoa(cached),
		"Name": name, "Context": context, "Dockerfile": b.Of.Dockerfile, "Image": b.Image,
	}
}

// shortDuration is a duration as the display shows it.
func shortDuration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// findBuild returns the build of an ID, or of the beginning of one, or the last build of a
// name; the last of all for "".
func findBuild(records *cache.Store, text string) (cache.Build, error) {
	list, err := records.Builds()
	if err != nil {
		return cache.Build{}, err
	}
	var found []cache.Build
	names, _ := tagNames([]string{text}) // what is not a name is an ID
	for _, b := range list {
		switch {
		case text == "", len(names) > 0 && len(b.Tags) > 0 && b.Tags[0] == names[0]:
			return b, nil
		case strings.HasPrefix(b.ID, text):
			found = append(found, b)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return cache.Build{}, hint.Add(fmt.Errorf("%d builds have IDs that begin with %s", len(found), text), "write more of the ID; sinter builds lists them")
	case text == "":
		return cache.Build{}, hint.Add(errors.New("no build is recorded in this store"), "build something first: sinter build DIR")
	}
	return cache.Build{}, hint.Add(fmt.Errorf("build %s: not found", text), "sinter builds lists the builds that are recorded")
}

// findSteps returns the indexes of the steps that text names; of all for "".
func findSteps(b cache.Build, text string) ([]int, error) {
	var found []int
	n, err := strconv.Atoi(text)
	for i, s := range b.Steps {
		if text == "" || err == nil && n == i+1 || err != nil && strings.Contains(s.Name, text) {
			found = append(found, i)
		}
	}
	if len(found) == 0 && text != "" {
		return nil, hint.Add(fmt.Errorf("build %s: step %s: not found", b.ID, text), "sinter explain "+b.ID+" lists the steps; give a number or a part of a name")
	}
	return found, nil
}

func (a *app) buildLogs(ctx context.Context, records *cache.Store, args []string) error {
	b, err := findBuild(records, args[0])
	if err != nil {
		return err
	}
	steps, err := findSteps(b, strings.Join(args[1:], " "))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(steps, func(i int) bool { return b.Steps[i].Logged }) {
		_, err := fmt.Fprintf(a.stderr, "no step of build %s printed anything: sinter explain %s says which of them ran\n", b.ID, b.ID)
		return err
	}
	for _, i := range steps {
		if !b.Steps[i].Logged {
			continue
		}
		if len(steps) > 1 {
			if _, err := fmt.Fprintf(a.stdout, "=> %s\n", legible(b.Steps[i].Name)); err != nil {
				return err
			}
		}
		if err := copyLog(ctx, a.stdout, records, b.ID, i); err != nil {
			return err
		}
	}
	return nil
}

func copyLog(ctx context.Context, to io.Writer, records *cache.Store, id string, step int) error {
	log, err := records.OpenLog(id, step+1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the build was removed meanwhile
	}
	if err == nil {
		defer log.Close()
		_, err = io.Copy(to, log)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("reading the log of step %d of build %s: %w", step+1, id, err)
	}
	return context.Cause(ctx)
}
