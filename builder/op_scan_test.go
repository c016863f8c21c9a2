package builder

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// counting is a scanner that says how many layers it was shown.
type counting struct{}

func (counting) Identity() (string, error) { return "counting", nil }

func (counting) Scan(_ context.Context, op parser.Scan, chains []layers.Chain) (map[string][]byte, error) {
	files := map[string][]byte{}
	for i, name := range op.Names {
		files[name] = []byte(strings.Repeat("layer ", len(chains[i])))
	}
	return files, nil
}

// scanned is a graph whose target is scanned, with the stage that it has a file of.
func scanned(first, second *parser.Node) *parser.Graph {
	scan := node("scan", parser.Scan{Names: []string{"sbom", "sbom-stage"}}, second, first)
	return &parser.Graph{
		Nodes:   []*parser.Node{first, second, scan},
		Targets: []parser.Target{{Node: second, Scan: parser.Input{Node: scan}}},
	}
}

// TestPlanOfScan: what a step yields when it runs again may be other files. What was found
// in those that are lost is not about them.
func TestPlanOfScan(t *testing.T) {
	base := node("base", parser.Image{Ref: "base"})
	run := node("run", parser.Exec{Args: []string{"make"}, Mounts: []parser.Mount{{Type: parser.MountBind, Dest: "/", Input: 0}}}, base)
	g := scanned(base, run)
	f := &told{
		bases: map[string][]string{"base": {"base"}}, ran: map[string]string{},
		remembered: map[string]string{"base": "base", "base run": "made"}, records: map[cache.Key]*cache.Record{},
	}
	f.record(t, g, "run", "base", "run")
	f.record(t, g, "scan", "found")
	for _, tt := range []struct {
		know func()
		want string
	}{
		{func() {}, "base:- run:cached scan:cached"},
		{func() { f.forget("run") }, "base:source run:run scan:until(run)"},
		{func() { f.ran["run"] = "other" }, "base:source run:run scan:run"},
		{func() { f.ran["run"] = "made" }, "base:source run:run scan:cached"},
	} {
		tt.know()
		p, err := f.planner(t, g).plan(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.text(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// TestStatements: a scan yields a file for each of its inputs.
func TestStatements(t *testing.T) {
	b := newBench(t)
	stage := mkfile("step stage", "/made", "text")
	o := b.build(scanned(stage, mkfile("step target", "/top", "", stage)))
	files, err := o.Targets[0].Statements(t.Context(), o.config.Layers)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"sbom": []byte("layer layer "), "sbom-stage": []byte("layer ")}
	if !maps.EqualFunc(files, want, slices.Equal) {
		t.Errorf("got %q", files)
	}
}

// TestHostileStatements has what a scanner's image, which writes what it likes, may leave in
// the directory of statements.
func TestHostileStatements(t *testing.T) {
	c := newBench(t).config()
	for name, test := range map[string]struct {
		entry   layers.Entry
		want    string // of the file "s"
		wantErr string
	}{
		"a file":                 {layers.Entry{Kind: layers.File, Size: 4}, "text", ""},
		"a link to a file":       {layers.Entry{Kind: layers.Symlink, Target: "/outside"}, "text", ""},
		"a link that goes up":    {layers.Entry{Kind: layers.Symlink, Target: "../../../../outside"}, "text", ""},
		"a link to nothing":      {layers.Entry{Kind: layers.Symlink, Target: "nowhere"}, "", `"s"`},
		"a link to itself":       {layers.Entry{Kind: layers.Symlink, Target: "s"}, "", `"s"`},
		"a link to a directory":  {layers.Entry{Kind: layers.Symlink, Target: "/run"}, "", `"s" is not a regular file`},
		"a directory":            {layers.Entry{Kind: layers.Dir, Mode: 0o755}, "", `"s", which is not a statement`},
		"a pipe":                 {layers.Entry{Kind: layers.Fifo}, "", `"s" is not a regular file`},
		"a file that is too big": {layers.Entry{Kind: layers.File, Size: manifest.MaxStatement + 1}, "", `"s" has 83886081 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := c.Layers.NewWriter(t.Context(), store.Forms{Tar: true}, c.Compression)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			test.entry.Path = "run/out/s"
			for _, e := range []layers.Entry{
				{Path: "outside", Kind: layers.File, Size: 4}, {Path: "run", Kind: layers.Dir, Mode: 0o755}, {Path: "run/out", Kind: layers.Dir, Mode: 0o755}, test.entry,
			} {
				var content io.Reader
				if e.Kind == layers.File {
					content = io.LimitReader(io.MultiReader(strings.NewReader("text"), zeros{}), e.Size)
				}
				if err := w.Add(e, content); err != nil {
					t.Fatal(err)
				}
			}
			l, err := w.Commit(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			files, err := TargetResult{Scan: layers.Chain{l}}.Statements(t.Context(), c.Layers)
			switch {
			case test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)):
				t.Errorf("got %.20q, %v; want an error with %q", files, err, test.wantErr)
			case test.wantErr == "" && (err != nil || len(files) != 1 || string(files["s"]) != test.want):
				t.Errorf("got %.20q, %v", files, err)
			}
		})
	}
}

// zeros is a reader without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
