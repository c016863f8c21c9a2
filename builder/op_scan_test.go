package builder

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
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
