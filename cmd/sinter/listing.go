package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// listing is how a command prints things of one kind, as docker does it: as a
// table, as JSON, or by a Go template.
type listing struct {
	// command is the one whose help says more.
	command string
	// format is the value of --format.
	format string
	// table are the columns that are shown without one; headers are the
	// titles of all that there are.
	table   []string
	headers map[string]string
}

// row is one thing by its columns.
type row map[string]string

// formatUsage is the help of every --format.
const formatUsage = "`FORMAT`: table, json, a Go template such as '{{.%s}}', or 'table TEMPLATE'"

// templateFuncs are those of docker's formats.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			data, err := json.Marshal(v)
			return string(data), err
		},
		"join": strings.Join, "split": strings.Split, "lower": strings.ToLower, "upper": strings.ToUpper,
		"truncate": func(s string, n int) string { return s[:min(max(n, 0), len(s))] },
	}
}

func (l listing) print(w io.Writer, rows []row) error {
	switch {
	case l.format == "json":
		for _, r := range rows {
			if err := printJSON(w, r); err != nil {
				return err
			}
		}
		return nil
	case l.format == "" || l.format == "table":
		return l.printTable(w, "{{."+strings.Join(l.table, "}}\t{{.")+"}}", rows)
	case strings.HasPrefix(l.format, "table "):
		return l.printTable(w, strings.TrimPrefix(l.format, "table "), rows)
	}
	t, err := l.template(l.format)
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

func printJSON(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(data))
	return err
}

// unescape gives \t and \n their meaning, which a shell leaves as they are.
var unescape = strings.NewReplacer(`\t`, "\t", `\n`, "\n")

func (l listing) template(text string) (*template.Template, error) {
	t, err := template.New("format").Option("missingkey=error").Funcs(templateFuncs()).Parse(unescape.Replace(text))
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("invalid --format %q: %w", text, err), command: l.command}
	}
	return t, nil
}

func (l listing) line(w io.Writer, t *template.Template, r row) error {
	if err := t.Execute(w, r); err != nil {
		return &usageError{err: &hinted{
			err:  fmt.Errorf("invalid --format: %w", err),
			hint: "there are " + strings.Join(slices.Sorted(maps.Keys(l.headers)), ", "),
		}, command: l.command}
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (l listing) printTable(w io.Writer, text string, rows []row) error {
	t, err := l.template(text)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	for _, r := range append([]row{l.headers}, rows...) {
		if err := l.line(tw, t, r); err != nil {
			return err
		}
	}
	return tw.Flush()
}
