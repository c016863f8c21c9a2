package builder

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// bench is a store and a context to build in.
type bench struct {
	*testing.T
	root, dir string
}

func newBench(t *testing.T) *bench { return &bench{T: t, root: t.TempDir(), dir: t.TempDir()} }

func (b *bench) write(name, text string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// config opens the store anew, as another process would.
func (b *bench) config() Config {
	b.Helper()
	s, err := store.Open(b.root, store.Options{Warn: func(text string) { b.Log("warning:", text) }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	c, err := cache.Open(b.root)
	if err != nil {
		b.Fatal(err)
	}
	files, err := local.Open(b.dir, filepath.Join(b.root, "contexts"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { files.Close() })
	return Config{Layers: s, Cache: c, Locals: map[string]*local.Directory{"context": files}, Scanner: counting{}, Blobs: true}
}

// outcome is what a build did.
type outcome struct {
	*Result
	config      Config
	ran, cached []string
}

func (b *bench) build(g *parser.Graph) outcome {
	b.Helper()
	o, err := b.try(g)
	if err != nil {
		b.Fatal(err)
	}
	return o
}

func (b *bench) try(g *parser.Graph) (outcome, error) {
	b.Helper()
	o := outcome{config: b.config()}
	var mu sync.Mutex
	o.config.Events = func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e, ok := e.(progress.Ended); ok && strings.HasPrefix(e.Name, "step") {
			if e.Cached {
				o.cached = append(o.cached, e.Name)
			} else {
				o.ran = append(o.ran, e.Name)
			}
		}
	}
	var err error
	o.Result, err = Build(context.Background(), g, o.config)
	slices.Sort(o.ran)
	slices.Sort(o.cached)
	return o, err
}

// file returns what a file of the result holds.
func (o outcome) file(t *testing.T, path string) string {
	t.Helper()
	files, err := source.OpenChain(context.Background(), o.config.Layers, o.Targets[0].Chain)
	if err != nil {
		t.Fatal(err)
	}
	e, ok, err := files.Lookup(path)
	if err != nil || !ok {
		t.Fatalf("%s: %v, %v", path, ok, err)
	}
	r, err := files.Open(context.Background(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// graphOf makes a graph of nodes, the last of which is the target.
func graphOf(nodes ...*parser.Node) *parser.Graph {
	return &parser.Graph{Nodes: nodes, Targets: []parser.Target{{Node: nodes[len(nodes)-1]}}}
}

func node(name string, op parser.Op, inputs ...*parser.Node) *parser.Node {
	n := &parser.Node{ID: digest.FromString(name), Name: name, Op: op}
	for _, in := range inputs {
		n.Inputs = append(n.Inputs, parser.Input{Node: in})
	}
	return n
}

func contextNode() *parser.Node { return node("context", parser.Local{Name: "context"}) }

func actions(list ...parser.FileAction) parser.FileOp { return parser.FileOp{Actions: list} }

// mkfile writes a file on the first input, or on nothing.
func mkfile(name, path, text string, base ...*parser.Node) *parser.Node {
	a := parser.FileAction{Input: -1, Secondary: -1, Action: parser.Mkfile{Path: path, Mode: 0o644, Data: []byte(text)}}
	if len(base) > 0 {
		a.Input = 0
	}
	return node(name, actions(a), base...)
}

// copyFrom copies from the first input onto the second, or onto nothing.
func copyFrom(name, src, dest string, from *parser.Node, base ...*parser.Node) *parser.Node {
	a := parser.FileAction{Input: -1, Secondary: 0, Action: parser.Copy{Src: src, Dest: dest, CreateDestPath: true, FollowSymlinks: true, AllowWildcard: true}}
	if len(base) > 0 {
		a.Input = 1
	}
	return node(name, actions(a), append([]*parser.Node{from}, base...)...)
}

func (o outcome) want(t *testing.T, ran, cached string) {
	t.Helper()
	if got := strings.Join(o.ran, ", "); got != ran {
		t.Errorf("ran: %s, want %s", got, ran)
	}
	if got := strings.Join(o.cached, ", "); got != cached {
		t.Errorf("cached: %s, want %s", got, cached)
	}
}

// twoStages copies a context file into a stage and from there into the target,
// which also has a file of its own.
func twoStages() *parser.Graph {
	ctx := contextNode()
	stage := copyFrom("step stage", "/a", "/from-context", ctx)
	other := mkfile("step other", "/other", "not copied", stage)
	base := mkfile("step base", "/base", "base")
	return graphOf(ctx, stage, other, base, copyFrom("step target", "/from-context", "/result", other, base))
}

func TestCachedBuildRunsNothing(t *testing.T) {
	b := newBench(t)
	b.write("a", "first")
	o := b.build(twoStages())
	o.want(t, "step base, step other, step stage, step target", "")
	if got := o.file(t, "result"); got != "first" {
		t.Errorf("the result holds %q", got)
	}
	if Planned(context.Background(), twoStages(), newBench(t).config()) {
		t.Error("planned in an empty store")
	}
	if !Planned(context.Background(), twoStages(), b.config()) {
		t.Error("not planned after a build")
	}
	again := b.build(twoStages())
	again.want(t, "", "step base, step other, step stage, step target")
	if again.Stats != (Stats{Cached: 4}) {
		t.Errorf("stats %+v", again.Stats)
	}
	if !slices.EqualFunc(o.Targets[0].Chain, again.Targets[0].Chain, func(a, b layers.Layer) bool {
		return a.Descriptor.Digest == b.Descriptor.Digest && a.Created.Equal(b.Created)
	}) {
		t.Errorf("the layers differ:\n%+v\n%+v", o.Targets[0].Chain, again.Targets[0].Chain)
	}
}

func TestChangeRunsWhatItMust(t *testing.T) {
	b := newBench(t)
	b.write("a", "first")
	b.write("unrelated", "1")
	b.build(twoStages())
	b.write("unrelated", "2")
	b.build(twoStages()).want(t, "", "step base, step other, step stage, step target")
	b.write("a", "second")
	o := b.build(twoStages())
	o.want(t, "step other, step stage, step target", "step base")
	if got := o.file(t, "result"); got != "second" {
		t.Errorf("the result holds %q", got)
	}
	b.write("a", "first")
	b.build(twoStages()).want(t, "", "step base, step other, step stage, step target")
}

// TestEarlyCutOff: a stage that ran again and yields the same files leaves what
// copies from it cached.
func TestEarlyCutOff(t *testing.T) {
	b := newBench(t)
	graph := func(version string) *parser.Graph {
		made := mkfile("step made", "/made", "the same")
		log := mkfile("step log", "/log", version, made)
		return graphOf(made, log, copyFrom("step target", "/made", "/result", log))
	}
	b.build(graph("1"))
	b.build(graph("2")).want(t, "step log", "step made, step target")
}

func TestNoCache(t *testing.T) {
	b := newBench(t)
	b.write("a", "first")
	b.build(twoStages())
	g := twoStages()
	g.Nodes[1].NoCache = true
	b.build(g).want(t, "step other, step stage", "step base, step target")
}

func TestTwoBuildsAtOnceDoEachStepOnce(t *testing.T) {
	b := newBench(t)
	b.write("a", "first")
	var mu sync.Mutex
	ran := map[string]int{}
	var wg sync.WaitGroup
	for range 4 {
		c := b.config()
		c.Events = func(e progress.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e, ok := e.(progress.Ended); ok && !e.Cached {
				ran[e.Name]++
			}
		}
		wg.Go(func() {
			if _, err := Build(context.Background(), twoStages(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, name := range []string{"step base", "step other", "step stage", "step target"} {
		if ran[name] != 1 {
			t.Errorf("%s ran %d times", name, ran[name])
		}
	}
}

func TestDamagedStoreIsBuiltAgain(t *testing.T) {
	for _, pattern := range []string{"steps/*/*", "content/*/*", "layers/*/layer.json", "layers/*/tree"} {
		t.Run(strings.ReplaceAll(pattern, "/", " "), func(t *testing.T) {
			b := newBench(t)
			b.write("a", "first")
			b.build(twoStages())
			files, err := filepath.Glob(filepath.Join(b.root, pattern))
			if err != nil || len(files) == 0 {
				t.Fatal("nothing to damage", err)
			}
			for _, f := range files {
				if err := os.Truncate(f, 10); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.build(twoStages()).file(t, "result"); got != "first" {
				t.Errorf("the result holds %q", got)
			}
		})
	}
}

func TestFailureNamesTheStep(t *testing.T) {
	b := newBench(t)
	b.write("there", "")
	ctx := contextNode()
	bad := copyFrom("step bad", "/absent", "/", ctx)
	graphs := map[string]*parser.Graph{
		"target":         graphOf(ctx, bad),
		"below target":   graphOf(ctx, bad, copyFrom("step target", "/there", "/", ctx, bad)),
		"in other stage": graphOf(ctx, bad, copyFrom("step target", "/there", "/", bad)),
	}
	for name, g := range graphs {
		t.Run(name, func(t *testing.T) {
			_, err := b.try(g)
			var step *StepError
			if !errors.As(err, &step) || step.Node.Name != "step bad" || !strings.Contains(err.Error(), `"/absent": not found`) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestFirstFailureIsTheReason: what else fails in a build that is ending does so
// because of that.
func TestFirstFailureIsTheReason(t *testing.T) {
	e, err := newEngine(t.Context(), graphOf(mkfile("step", "/a", "")), Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := &StepError{Node: e.graph.Nodes[0], Graph: e.graph, Err: errors.New("first")}
	ctx, cancel := context.WithCancelCause(t.Context())
	other := errors.New("other")
	var step *StepError
	if err := e.blame(ctx, e.graph.Nodes[0], other); !errors.As(err, &step) || !errors.Is(err, other) {
		t.Errorf("got %v", err)
	}
	cancel(first)
	if err := e.blame(ctx, e.graph.Nodes[0], context.Canceled); err != error(first) {
		t.Errorf("got %v", err)
	}
}

func TestMerge(t *testing.T) {
	b := newBench(t)
	base, link := mkfile("step base", "/base", "base"), mkfile("step link", "/link", "link")
	o := b.build(graphOf(base, link, node("merge", parser.Merge{}, base, link)))
	if o.file(t, "base") != "base" || o.file(t, "link") != "link" || len(o.Targets[0].Chain) != 2 {
		t.Errorf("got %+v", o.Targets[0].Chain)
	}
}
