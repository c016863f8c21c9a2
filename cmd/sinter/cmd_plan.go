package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// planning is what the command plan wants beside what build does.
type planning struct {
	failOn  []string
	format  string
	noTrunc bool
	fails   []*regexp.Regexp
}

func newPlanCmd(a *app) *cobra.Command {
	f := &buildFlags{planning: &planning{}}
	c := &cobra.Command{
		Use:   "plan [flags] PATH | URL | -",
		Short: "Show what a build would do, and why",
		Long: `Show what a build with the same flags would do, and why, without doing it.

Each step is cached, would run, or depends on steps that have to run first: then it
runs if these give other files than before. Names of images are resolved and files
are hashed, as in a build. No command starts, nothing is downloaded for a step, and
no image, output or record is written. Of a context that is a repository or an
archive the Dockerfile has to be read, so the store keeps what is in it.`,
		Example: `  sinter plan .
  sinter plan --format json -t app .
  sinter plan --fail-on 'run=RUN npm*' .`,
		Args: f.checkArgs,
		RunE: func(c *cobra.Command, args []string) error {
			f.context = args[0]
			err := a.build(c.Context(), f)
			var usage *usageError
			if errors.As(err, &usage) {
				usage.command = c.CommandPath()
			}
			return err
		},
	}
	f.register(c)
	c.Flags().StringArrayVar(&f.planning.failOn, "fail-on", nil, fmt.Sprintf("`run[=PATTERN]`: end with code %d if a step would run, or may run, whose stage, instruction or name matches (* stands for any text; repeatable)", exitPlan))
	c.Flags().BoolVar(&f.planning.noTrunc, "no-trunc", false, "print the names of steps in full")
	format := c.Flags().Lookup("format")
	format.Usage = fmt.Sprintf(formatUsage, "Why")
	format.DefValue = ""
	return c
}

// take takes from the flags of build what means something else for plan, and leaves out
// what would be written.
func (p *planning) take(f *buildFlags) error {
	if f.given.Changed("format") {
		p.format, f.format = f.format, imageFormats[0]
	}
	f.iidFile, f.digestFile, f.metadataFile = "", "", ""
	if f.progress == "auto" {
		f.progress = "none"
	}
	for _, text := range p.failOn {
		what, pattern, some := strings.Cut(text, "=")
		if what != "run" || some && pattern == "" {
			return wrongFlag("fail-on", text, "want run or run=PATTERN")
		}
		if !some {
			pattern = "*"
		}
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		p.fails = append(p.fails, regexp.MustCompile("(?s)^"+strings.Join(parts, ".*")+"$"))
	}
	return nil
}

// plan prints what the build would do.
func (b *building) plan(ctx context.Context, req parser.Request, r *builder.Resolver) error {
	b.screen.show()
	graph, config, err := b.parse(ctx, req, r)
	if err != nil {
		return err
	}
	config.Journal = builder.NewJournal(config.Cache, config.Layers, b.subject(graph), graph.Redact, b.warn)
	r.Images.LookOnly = true
	f, err := builder.Foresee(ctx, graph, config)
	b.screen.close()
	if err != nil {
		return err
	}
	if err := b.printForecast(f); err != nil {
		return err
	}
	if name := b.flags.planning.refused(f); name != "" {
		return &planError{name}
	}
	return nil
}

// refused returns the first step that would or may run and that --fail-on names; "" for
// none.
func (p *planning) refused(f *builder.Forecast) string {
	for _, s := range f.Steps {
		if s.State == builder.Cached {
			continue
		}
		stage, text := cache.SplitName(s.Written)
		for _, r := range p.fails {
			if r.MatchString(s.Written) || r.MatchString(text) || stage != "" && r.MatchString(stage) {
				return s.Name
			}
		}
	}
	return ""
}

// plannedStep is a step in JSON.
type plannedStep struct {
	Name    string         `json:"name"`
	Verdict string         `json:"verdict"`
	Why     []cache.Reason `json:"why,omitempty"`
	Text    string         `json:"text,omitempty"`
	Until   []string       `json:"dependsOn,omitempty"`
}

// verdictOf is what plans call the state of a step.
func verdictOf(s builder.State) string {
	switch s {
	case builder.Cached:
		return "cached"
	case builder.Run:
		return "run"
	}
	return "depends"
}

func (b *building) printForecast(f *builder.Forecast) error {
	var steps []plannedStep
	var rows []row
	counts := map[string]int{}
	for _, s := range f.Steps {
		p := plannedStep{Name: s.Name, Verdict: verdictOf(s.State), Why: s.Why, Text: cache.Text(s.Why), Until: s.Until}
		if len(s.Until) > 0 {
			p.Text = "depends on " + strings.Join(shortNames(s.Until), ", ")
		}
		steps = append(steps, p)
		counts[p.Verdict]++
		rows = append(rows, row{"Name": stepText(s.Name, b.flags.planning.format, b.flags.planning.noTrunc), "Verdict": p.Verdict, "Why": p.Text})
	}
	push := int64(0)
	if b.pushes() {
		for _, l := range f.Layers {
			push += l.Descriptor.Size
		}
	}
	if b.flags.planning.format == "json" {
		return printJSON(b.stdout, map[string]any{
			"steps": steps, "run": counts["run"], "depends": counts["depends"], "cached": counts["cached"], "pull": f.Pull, "push": push,
		})
	}
	l := listing{format: b.flags.planning.format, table: []string{"Verdict", "Name", "Why"},
		headers: row{"Name": "STEP", "Verdict": "VERDICT", "Why": "WHY"}}
	if err := l.print(b.stdout, rows); err != nil || !isTable(l.format) {
		return err
	}
	return b.foreseen(counts, f.Pull, push)
}

// foreseen is the last line of a plan.
func (b *building) foreseen(counts map[string]int, pull, push int64) error {
	text := fmt.Sprintf("%s would run, %d may run, %d cached; %s to pull", count(counts["run"], "step"), counts["depends"], counts["cached"], humanSize(pull))
	if b.pushes() {
		text += fmt.Sprintf("; up to %s to push", humanSize(push))
		if counts["run"]+counts["depends"] > 0 {
			text += ", and what these steps make"
		}
	}
	_, err := fmt.Fprintln(b.stderr, text)
	return err
}

// pushes reports whether an output goes to a registry.
func (b *building) pushes() bool {
	for _, o := range b.outputs {
		if o.Pushes() {
			return true
		}
	}
	return false
}

func shortNames(names []string) []string {
	short := make([]string, len(names))
	for i, n := range names {
		short[i] = cache.ShortName(n)
	}
	return short
}
