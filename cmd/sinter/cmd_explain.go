package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/cache"
)

func newExplainCmd(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "explain [flags] [BUILD [STEP]]",
		Short: "Show what each step of a build did, and why",
		Long: `Show what each step of a build did, and why: of the last build, or of the one given
by its ID, the beginning of its ID, or the name of an image.

A STEP is its number, or a part of its name. Of one step all is shown: how long it
took, its memory, what decided its key, its layer.`,
		Example: `  sinter explain
  sinter explain app:latest
  sinter explain mx1hwr0t 'npm ci'`,
		Args: usageArgs(cobra.RangeArgs(0, 2)),
		RunE: func(c *cobra.Command, args []string) error { return a.explainBuild(c.Context(), format, args) },
	}
	c.Flags().StringVar(&format, "format", "", fmt.Sprintf(formatUsage, "Why"))
	return c
}

func (a *app) explainBuild(ctx context.Context, format string, args []string) error {
	release, err := a.sharedToRead(ctx)
	if err != nil {
		return err
	}
	defer release()
	records, err := a.cache()
	if err != nil {
		return err
	}
	build, step := "", ""
	if len(args) > 0 {
		build = args[0]
	}
	if len(args) > 1 {
		step = args[1]
	}
	b, err := findBuild(records, build)
	if err != nil {
		return err
	}
	found, err := findSteps(b, step)
	if err != nil {
		return err
	}
	if format == "json" {
		if step != "" {
			var some []cache.BuildStep
			for _, i := range found {
				some = append(some, b.Steps[i])
			}
			b.Steps = some
		}
		return printJSON(a.stdout, b)
	}
	if isTable(format) && step != "" {
		for _, i := range found {
			if err := printStepFully(a.stdout, i, b.Steps[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return a.explainTable(format, b, found)
}

func (a *app) explainTable(format string, b cache.Build, found []int) error {
	var rows []row
	for _, i := range found {
		s := b.Steps[i]
		r := row{"Number": fmt.Sprint(i + 1), "Name": s.Name, "Verdict": string(s.Verdict), "Why": cache.Text(s.Why), "Duration": "", "Memory": "", "Layer": s.Layer, "Size": "", "Key": s.Key.String()}
		if s.Took > 0 {
			r["Duration"] = shortDuration(s.Took)
		}
		if s.Memory > 0 {
			r["Memory"] = humanSize(s.Memory)
		}
		if s.Size > 0 {
			r["Size"] = humanSize(s.Size)
		}
		rows = append(rows, r)
	}
	l := listing{format: format, table: []string{"Number", "Verdict", "Duration", "Name", "Why"}, headers: row{
		"Number": "#", "Name": "STEP", "Verdict": "VERDICT", "Why": "WHY", "Duration": "DURATION", "Memory": "MEMORY", "Layer": "LAYER", "Size": "SIZE", "Key": "KEY",
	}}
	if isTable(format) {
		if err := printBuildHead(a.stdout, b); err != nil {
			return err
		}
	}
	return l.print(a.stdout, rows)
}

func printBuildHead(w io.Writer, b cache.Build) error {
	what := b.Of.Context
	if len(b.Tags) > 0 {
		what = b.Tags[0] + " of " + what
	}
	text := fmt.Sprintf("build %s, %s: %s, %s in %s\n", b.ID, b.Started.Local().Format(time.DateTime), what, b.Result, shortDuration(b.Took))
	if b.Error != "" {
		first, _, _ := strings.Cut(b.Error, "\n")
		text += "error: " + first + "\n"
	}
	_, err := fmt.Fprint(w, text)
	return err
}

// printStepFully prints all that is known of one step.
func printStepFully(w io.Writer, i int, s cache.BuildStep) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-10s %s\n", name+":", value)
		}
	}
	fmt.Fprintf(&b, "%d %s\n", i+1, s.Name)
	line("verdict", string(s.Verdict))
	line("why", cache.Text(s.Why))
	if s.Took > 0 {
		line("duration", shortDuration(s.Took))
	}
	if s.Memory > 0 {
		line("memory", humanSize(s.Memory))
	}
	line("layer", s.Layer)
	if s.Size > 0 {
		line("size", humanSize(s.Size))
	}
	line("key", s.Key.String())
	if len(s.Parts) > 0 {
		b.WriteString("  made of:\n")
	}
	for _, p := range s.Parts {
		value := strings.ReplaceAll(strings.TrimRight(p.Value, "\n"), "\n", "\n      ")
		from := ""
		if p.From != "" {
			from = ", of " + p.From
		}
		fmt.Fprintf(&b, "    %s%s\n      %s\n", p.Name, from, value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
