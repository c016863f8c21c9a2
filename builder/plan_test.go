package builder

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// told are facts that a test tells: the other implementation beside the stores.
type told struct {
	bases map[string][]string
	// files are what sources hold, by the node's name; ran are the steps that have
	// run in this build, with what is selected of them.
	files, ran map[string]string
	// remembered are contents by the names of the layers, joined by blanks.
	remembered map[string]string
	records    map[cache.Key]*cache.Record
	lost       map[string]bool
	asked      []string
}

func (f *told) Base(_ context.Context, n *parser.Node) (BaseImage, error) {
	if names, ok := f.bases[n.Name]; ok {
		return BaseImage{Name: n.Name, Layers: names}, nil
	}
	return BaseImage{}, errors.New("no such image")
}

func (f *told) Digest(_ context.Context, in parser.Input, _ fileop.Selection) (digest.Digest, error) {
	text, ok := f.files[in.Node.Name]
	if !ok {
		text, ok = f.ran[in.Node.Name]
	}
	if !ok {
		return "", nil
	}
	return digest.FromString(text), nil
}

func (f *told) Remembered(names []string, _ fileop.Selection) digest.Digest {
	text, ok := f.remembered[strings.Join(names, " ")]
	if !ok {
		return ""
	}
	return digest.FromString(text)
}

func (f *told) Record(key cache.Key) *cache.Record {
	r := f.records[key]
	if r != nil {
		f.asked = append(f.asked, r.Name)
	}
	return r
}

func (f *told) Result(r *cache.Record) ([]layers.Chain, bool) {
	list := make([]layers.Chain, len(r.Outputs))
	for i, o := range r.Outputs {
		for _, name := range o.Layers {
			if f.lost[name] {
				return nil, false
			}
			list[i] = append(list[i], layers.Layer{ID: layers.ID(name)})
		}
	}
	return list, true
}

func (f *told) planner(t *testing.T, g *parser.Graph) *planner {
	t.Helper()
	p, err := newPlanner(g, &Config{Scanner: counting{}}, f, func(_ context.Context, _ *parser.Node, err error) error { return err })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// record writes down that a step of g, under the key that it has now, yielded layers.
func (f *told) record(t *testing.T, g *parser.Graph, name string, layers ...string) {
	t.Helper()
	i := slices.IndexFunc(g.Nodes, func(n *parser.Node) bool { return n.Name == name })
	id, err := f.planner(t, g).expected(t.Context(), g.Nodes[i])
	if err != nil || len(id.until) > 0 {
		t.Fatalf("%s has no key: until %v, %v", name, id.until, err)
	}
	f.records[id.key] = &cache.Record{Key: id.key, Name: name, Outputs: []cache.Output{{Layers: layers}}}
}

// text is a plan as one line.
func (p Plan) text() string {
	var words []string
	for _, v := range p {
		word := map[State]string{NotNeeded: "-", Cached: "cached", Source: "source", Run: "run", Unknown: "until"}[v.State]
		word += map[Why]string{NotAsked: "!", Lost: "?"}[v.Why]
		for _, n := range v.Until {
			word += "(" + n.Name + ")"
		}
		words = append(words, v.Node.Name+":"+word)
	}
	return strings.Join(words, " ")
}

// staged is a base image with a stage on it, of which the target copies a file.
func staged() *parser.Graph {
	base := node("base", parser.Image{Ref: "base"})
	ctx := contextNode()
	build := copyFrom("build", "/a", "/a", ctx, base)
	run := node("run", parser.Exec{Args: []string{"make"}, Mounts: []parser.Mount{{Type: parser.MountBind, Dest: "/", Input: 0}}}, build)
	top := mkfile("top", "/top", "", base)
	return graphOf(base, ctx, build, run, top, copyFrom("target", "/made", "/made", run, top))
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name string
		// know changes what is known, or the graph; everything is known before.
		know func(f *told, g *parser.Graph)
		want string
	}{
		{"everything is known", func(*told, *parser.Graph) {},
			"base:- context:- build:- run:- top:- target:cached"},
		{"nothing is", func(f *told, _ *parser.Graph) { clear(f.records); clear(f.remembered) },
			"base:source context:source build:run run:run top:run target:until(run)"},
		{"the target has no record", func(f *told, _ *parser.Graph) { f.forget("target") },
			"base:- context:- build:- run:cached top:cached target:run"},
		{"a stage's record went, and its content is remembered", func(f *told, _ *parser.Graph) { f.forget("run") },
			"base:- context:- build:cached run:run top:cached target:until(run)"},
		{"a step below went that nobody needs", func(f *told, _ *parser.Graph) { f.forget("build"); f.forget("top") },
			"base:- context:- build:- run:- top:- target:cached"},
		{"the stage's content is not remembered", func(f *told, _ *parser.Graph) { clear(f.remembered) },
			"base:- context:- build:- run:cached top:cached target:until(run)"},
		{"the stage has run and gave the same files", func(f *told, _ *parser.Graph) { f.forget("run"); f.ran["run"] = "made" },
			"base:- context:- build:- run:- top:- target:cached"},
		{"the stage has run and gave other files", func(f *told, _ *parser.Graph) { f.forget("run"); f.ran["run"] = "other" },
			"base:- context:- build:cached run:run top:cached target:run"},
		{"a file changed", func(f *told, _ *parser.Graph) { f.files["context"] = "second" },
			"base:source context:source build:run run:run top:cached target:until(run)"},
		{"the base changed", func(f *told, _ *parser.Graph) { f.bases["base"] = []string{"newer"} },
			"base:source context:source build:run run:run top:run target:until(run)"},
		{"a stage is not to be cached", func(_ *told, g *parser.Graph) { g.Nodes[3].NoCache = true },
			"base:- context:- build:cached run:run! top:cached target:until(run)"},
		{"nor what stands on it", func(_ *told, g *parser.Graph) { g.Nodes[2].NoCache = true },
			"base:source context:source build:run! run:run! top:cached target:until(run)"},
		{"the target's layers are lost", func(f *told, _ *parser.Graph) { f.lost["target"] = true },
			"base:- context:- build:- run:cached top:cached target:run?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &told{
				bases: map[string][]string{"base": {"base"}}, files: map[string]string{"context": "first"}, ran: map[string]string{},
				remembered: map[string]string{"base build run": "made"}, records: map[cache.Key]*cache.Record{}, lost: map[string]bool{},
			}
			g := staged()
			f.record(t, g, "build", "base", "build")
			f.record(t, g, "run", "base", "build", "run")
			f.record(t, g, "top", "base", "top")
			f.record(t, g, "target", "base", "top", "target")
			tt.know(f, g)
			p, err := f.planner(t, g).plan(t.Context(), g)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.text(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func (f *told) forget(name string) {
	for key, r := range f.records {
		if r.Name == name {
			delete(f.records, key)
		}
	}
}

// TestPlanAgain: a remembered digest was out of date. When the stage has run the step
// has another key, which is cached.
func TestPlanAgain(t *testing.T) {
	f := &told{
		bases: map[string][]string{"base": {"base"}}, files: map[string]string{"context": "first"}, ran: map[string]string{},
		remembered: map[string]string{"base build run": "made"}, records: map[cache.Key]*cache.Record{},
	}
	g := staged()
	f.record(t, g, "run", "base", "build", "run")
	f.record(t, g, "target", "base", "top", "right")
	f.remembered["base build run"] = "out of date"
	p, target := f.planner(t, g), g.Nodes[5]
	v, err := p.verdict(t.Context(), target)
	if err != nil || v.State != Run || !v.remembered {
		t.Fatalf("got %+v, %v", v, err)
	}
	f.ran["run"] = "made"
	id, err := p.actual(t.Context(), target)
	if err != nil || id.key == v.Key || f.records[id.key] == nil || f.records[id.key].Name != "target" {
		t.Errorf("the key is %s, %v; it was %s", id.key, err, v.Key)
	}
	if final, err := p.final(t.Context(), target); err != nil || final.key != id.key {
		t.Errorf("the result stands under %s, %v", final.key, err)
	}
}

// TestPlanOfLostStage: keys were made of what is remembered of layers that then turn out
// to be lost. There is no plan with them.
func TestPlanOfLostStage(t *testing.T) {
	f := &told{
		bases: map[string][]string{"base": {"base"}}, files: map[string]string{"context": "first"},
		remembered: map[string]string{"base build run": "made"}, records: map[cache.Key]*cache.Record{}, lost: map[string]bool{},
	}
	g := staged()
	f.record(t, g, "run", "base", "build", "run")
	f.lost["run"] = true
	var lost *lostError
	if _, err := f.planner(t, g).plan(t.Context(), g); !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
}

// TestPlanAsksOnce: a record is read once in a build, so all that is taken of a stage
// comes from one run of it.
func TestPlanAsksOnce(t *testing.T) {
	f := &told{
		bases: map[string][]string{"base": {"base"}}, files: map[string]string{"context": "first"},
		remembered: map[string]string{"base build run": "made"}, records: map[cache.Key]*cache.Record{},
	}
	g := staged()
	f.record(t, g, "run", "base", "build", "run")
	f.asked = nil
	p := f.planner(t, g)
	for range 2 {
		if _, err := p.plan(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(f.asked, " "); got != "run" {
		t.Errorf("asked for the records of %s", got)
	}
}
