package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/cache"
)

func newExplainCmd(a *app) *cobra.Command {
	var format string
	var noTrunc bool
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
		RunE: func(c *cobra.Command, args []string) error {
			return a.readBuilds(c.Context(), func(records *cache.Store) error { return a.explainBuild(records, format, noTrunc, args) })
		},
	}
	c.Flags().StringVar(&format, "format", "", fmt.Sprintf(formatUsage, "Why"))
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "print the names of steps in full")
	return c
}

func (a *app) explainBuild(records *cache.Store, format string, noTrunc bool, args []string) error {
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
			if err := printStepFully(a.stdout, records, i, b.Steps[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return a.explainTable(format, noTrunc, b, found)
}

func (a *app) explainTable(format string, noTrunc bool, b cache.Build, found []int) error {
	var rows []row
	for _, i := range found {
		s := b.Steps[i]
		r := row{"Number": fmt.Sprint(i + 1), "Name": stepText(s.Name, format, noTrunc), "Verdict": string(s.Verdict), "Why": cache.Text(s.Why), "Duration": "", "Memory": "", "Layer": s.Layer, "Size": "", "Key": s.Key.String()}
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
	_, err := fmt.Fprint(w, legible(text))
	return err
}

// printStepFully prints all that is known of one step.
func printStepFully(w io.Writer, records *cache.Store, i int, s cache.BuildStep) error {
	var head, parts fields
	head.add("verdict:", string(s.Verdict))
	head.add("why:", cache.Text(s.Why))
	if s.Took > 0 {
		head.add("duration:", shortDuration(s.Took))
	}
	if s.Memory > 0 {
		head.add("memory:", humanSize(s.Memory))
	}
	head.add("layer:", s.Layer)
	if s.Size > 0 {
		head.add("size:", humanSize(s.Size))
	}
	head.add("key:", s.Key.String())
	for _, p := range s.Parts {
		parts.add(p.Name, partText(records, p))
	}
	text := fmt.Sprintf("%d %s\n", i+1, s.Name) + head.text("  ")
	if len(parts) > 0 {
		text += "  made of:\n" + parts.text("    ")
	}
	_, err := io.WriteString(w, legible(text))
	return err
}

// partText is what a part of a key is for people: of files their number and where they
// come from, of what a step stands on its name.
func partText(records *cache.Store, p cache.Part) string {
	from := ""
	if p.From != "" {
		from = " of " + p.From
	}
	switch p.Kind {
	case cache.Content:
		content := strings.TrimSpace(p.Value)
		if list := records.Listing(content); list != nil {
			return count(list.Files(), "file") + from + "\n" + content
		}
		return "files" + from + "\n" + content
	case cache.After, cache.Base:
		if p.From != "" {
			return p.From
		}
	}
	return strings.TrimRight(p.Does(), "\n")
}

// fields are names with values, which are shown in two columns. Values may have several
// lines.
type fields [][2]string

// add adds a field, if it has a value.
func (f *fields) add(name, value string) {
	if value != "" {
		*f = append(*f, [2]string{name, value})
	}
}

// text shows each field behind an indentation.
func (f fields) text(indent string) string {
	width := 0
	for _, one := range f {
		width = max(width, len([]rune(one[0])))
	}
	var b strings.Builder
	for _, one := range f {
		name := one[0]
		for line := range strings.SplitSeq(one[1], "\n") {
			fmt.Fprintf(&b, "%s%-*s  %s\n", indent, width, name, line)
			name = ""
		}
	}
	return b.String()
}
