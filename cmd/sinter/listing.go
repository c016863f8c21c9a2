package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/docker/cli/templates"
	"github.com/docker/go-units"

	"github.com/sinter-build/sinter/layers/hint"
)

// listing is how a command prints things of one kind, as docker does it: as a
// table, as JSON, or by a Go template.
type listing struct {
	// format is the value of --format.
	format string
	// table are the columns that are shown without one; headers are the
	// titles of all that there are.
	table   []string
	headers row
	// quiet leaves out all but the ID, unless format is a template; once says that each is
	// shown once.
	quiet, once bool
}

// row is one thing by its columns.
type row map[string]string

// formatUsage is the help of every --format.
const formatUsage = "print as `FORMAT`: table, json, a Go template such as '{{.%s}}', or 'table TEMPLATE'"

// print writes the rows, or nothing when the format is wrong.
func (l listing) print(w io.Writer, rows []row) error {
	var out bytes.Buffer
	if err := l.render(&out, rows); err != nil {
		return err
	}
	_, err := out.WriteTo(w)
	return err
}

func (l listing) render(w io.Writer, rows []row) error {
	text := l.format
	switch {
	case l.quiet && isTable(text):
		return l.printIDs(w, rows)
	case text == "json":
		text = "{{json .}}"
	case text == "" || text == "table":
		return l.renderTable(w, "{{."+strings.Join(l.table, "}}\t{{.")+"}}", rows)
	case strings.HasPrefix(text, "table "):
		return l.renderTable(w, strings.TrimPrefix(text, "table "), rows)
	}
	t, err := parseFormat(text)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := l.line(w, t, r); err != nil {
			return err
		}
	}
	return nil
}

func (l listing) printIDs(w io.Writer, rows []row) error {
	seen := map[string]bool{}
	for _, r := range rows {
		if id := r["ID"]; !l.once || !seen[id] {
			seen[id] = true
			fmt.Fprintln(w, id)
		}
	}
	return nil
}

// cut is the beginning of a text, in width characters at most.
func cut(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text
}

// stepWidth is how much of a step's name a table shows.
const stepWidth = 60

// stepText is what tables without a template show of a step's name.
func stepText(name, format string, noTrunc bool) string {
	if noTrunc || !isTable(format) {
		return name
	}
	return cut(strings.Join(strings.Fields(name), " "), stepWidth)
}

// isTable reports whether a format is a table whose columns it does not name.
func isTable(format string) bool { return format == "" || format == "table" }

func printJSON(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, escapeObeyed(string(data)))
	return err
}

// unescape gives \t and \n their meaning, which a shell leaves as they are.
var unescape = strings.NewReplacer(`\t`, "\t", `\n`, "\n")

// parseFormat reads the template of a command's --format, in which docker's
// functions can be called.
func parseFormat(text string) (*template.Template, error) {
	t, err := templates.New("format").Option("missingkey=error").Parse(unescape.Replace(text))
	if err != nil {
		return nil, usagef("invalid --format %q: %w", text, err)
	}
	return t, nil
}

func (l listing) line(w io.Writer, t *template.Template, r row) error {
	if err := t.Execute(w, r); err != nil {
		return usage(hint.Add(fmt.Errorf("invalid --format: %w", err), "the fields are "+strings.Join(slices.Sorted(maps.Keys(l.headers)), ", ")))
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (l listing) renderTable(w io.Writer, text string, rows []row) error {
	t, err := parseFormat(text)
	if err != nil {
		return err
	}
	head, err := t.Clone()
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	// Titles stay as they are, whatever a column is made to look like.
	if err := l.line(tw, head.Funcs(templates.HeaderFunctions), l.headers); err != nil {
		return err
	}
	for _, r := range rows {
		cells := row{}
		for name, text := range r {
			cells[name] = onLine(text)
		}
		if err := l.line(tw, t, cells); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// humanSize is a number of bytes as docker shows it.
func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
