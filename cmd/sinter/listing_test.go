package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sinter-build/sinter/builder/gc"
)

func TestListing(t *testing.T) {
	rows := []row{{"Name": "a", "Size": "1B"}, {"Name": "long name", "Size": "20B"}}
	for format, want := range map[string]string{
		"":                           "NAME        SIZE\na           1B\nlong name   20B\n",
		"table":                      "NAME        SIZE\na           1B\nlong name   20B\n",
		`table {{.Size}}\t{{.Name}}`: "SIZE      NAME\n1B        a\n20B       long name\n",
		"json":                       "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"long name\",\"Size\":\"20B\"}\n",
		"{{.Name}}={{upper .Size}}":  "a=1B\nlong name=20B\n",
		"{{json .Name}}":             "\"a\"\n\"long name\"\n",
		"{{truncate .Name 3}}":       "a\nlon\n",
		"{{json .}}":                 "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"long name\",\"Size\":\"20B\"}\n",
		"table {{upper .Size}}":      "SIZE\n1B\n20B\n",
		"table {{title .Name}}":      "NAME\nA\nLong Name\n",
		"{{pad .Size 1 2}}|":         " 1B  |\n 20B  |\n",
		"{{println .Size}}":          "1B\n\n20B\n\n",
		`{{split .Name " "}}`:        "[a]\n[long name]\n",
	} {
		var out bytes.Buffer
		l := listing{format: format, table: []string{"Name", "Size"}, headers: map[string]string{"Name": "NAME", "Size": "SIZE"}}
		if err := l.print(&out, rows); err != nil {
			t.Errorf("%q: %v", format, err)
		}
		if out.String() != want {
			t.Errorf("%q prints\n%s\nwant\n%s", format, out.String(), want)
		}
	}
	for _, format := range []string{"{{.Moon}}", "{{", "table {{.Moon}}", "{{.Name}} {{.Moon}}", "table {{.Name}}\t{{index .Name 4}}"} {
		l := listing{format: format, headers: map[string]string{"Name": "NAME"}}
		var usage *usageError
		var out bytes.Buffer
		if err := l.print(&out, rows); !errors.As(err, &usage) {
			t.Errorf("%q: %v", format, err)
		}
		if out.Len() > 0 {
			t.Errorf("%q prints %q before the error", format, out.String())
		}
	}
	var out bytes.Buffer
	if err := (listing{format: "json"}).print(&out, []row{{"Tag": "<none>"}}); err != nil || out.String() != `{"Tag":"<none>"}`+"\n" {
		t.Errorf("json prints %q, %v", out.String(), err)
	}
}

func TestPruneOptions(t *testing.T) {
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, c := range []struct {
		flags pruneFlags
		want  gc.Options
		fails string
	}{
		{pruneFlags{}, gc.Options{}, ""},
		{pruneFlags{all: true, keep: "2GB"}, gc.Options{All: true, Keep: gc.Space{Reserved: 2e9}}, ""},
		{pruneFlags{only: gc.OnlyCache, reserved: "1GB", maxUsed: "2GB", minFree: "3GB"},
			gc.Options{Only: gc.OnlyCache, Keep: gc.Space{Reserved: 1e9, MaxUsed: 2e9, MinFree: 3e9}}, ""},
		{pruneFlags{filters: []string{"until=24h"}}, gc.Options{Until: now.Add(-24 * time.Hour)}, ""},
		{pruneFlags{filters: []string{"until=24h", "until=1h"}}, gc.Options{Until: now.Add(-24 * time.Hour)}, ""},
		{pruneFlags{filters: []string{"until=2024-01-02T03:04:05Z"}}, gc.Options{Until: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)}, ""},
		{pruneFlags{filters: []string{"until=-1h"}}, gc.Options{}, "until=-1h"},
		{pruneFlags{filters: []string{"label=x"}}, gc.Options{}, "only filter"},
		{pruneFlags{filters: []string{"id=x"}, only: gc.OnlyCache}, gc.Options{}, "only filter"},
		{pruneFlags{filters: []string{"label=x", "label!=y=z"}, only: gc.OnlyImages}, gc.Options{Only: gc.OnlyImages}, ""},
		{pruneFlags{filters: []string{"dangling=true"}, only: gc.OnlyImages}, gc.Options{}, "filters are"},
		{pruneFlags{keep: "-1"}, gc.Options{}, "size"},
		{pruneFlags{minFree: "much"}, gc.Options{}, "--min-free-space"},
	} {
		got, err := c.flags.options(now)
		switch {
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%+v: %v", c.flags, err)
		case c.fails == "" && (err != nil || got.All != c.want.All || got.Only != c.want.Only || got.Keep != c.want.Keep || !got.Until.Equal(c.want.Until)):
			t.Errorf("%+v: %+v, %v", c.flags, got, err)
		}
	}
}

func TestMatchesReference(t *testing.T) {
	for _, c := range []struct {
		pattern, ref string
		want         bool
	}{
		{"app", "docker.io/library/app:1", true}, {"app:1", "docker.io/library/app:1", true}, {"app:2", "docker.io/library/app:1", false},
		{"docker.io/library/app", "docker.io/library/app:1", true}, {"a*", "docker.io/library/app:1", true}, {"a*:*", "docker.io/library/app:1", true},
		{"*/app", "example.com/app:1", true}, {"*", "", false}, {"b*", "docker.io/library/app:1", false},
	} {
		if got := matchesReference(c.pattern, c.ref); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.ref, got)
		}
	}
}

func TestHostArg(t *testing.T) {
	for arg, want := range map[string]string{
		"docker.io": "docker.io", "index.docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io",
		"https://example.com/v2/": "example.com", "localhost:5000": "localhost:5000",
	} {
		if got := hostArg([]string{arg}); got != want {
			t.Errorf("hostArg(%q) = %q", arg, got)
		}
	}
	if got := hostArg(nil); got != "docker.io" {
		t.Errorf("without: %q", got)
	}
}
