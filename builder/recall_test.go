package builder

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// stageOf is a stage that writes two files, as two runs of one command might that
// writes other files each time. copied of them are copied into the target.
func stageOf(text string, copied ...string) *parser.Graph {
	a := mkfile("step a", "/a", text)
	b := mkfile("step b", "/b", text, a)
	nodes := []*parser.Node{a, b}
	var target []*parser.Node
	for _, name := range copied {
		target = []*parser.Node{copyFrom("step copy "+name, name, name, b, target...)}
		nodes = append(nodes, target...)
	}
	return graphOf(nodes...)
}

// stageKey is the key of the stage's last step.
func (b *bench) stageKey(g *parser.Graph) (cache.Key, *cache.Store) {
	b.Helper()
	c := b.config()
	e, err := newEngine(b.Context(), g, c, nil)
	if err != nil {
		b.Fatal(err)
	}
	id, err := e.plan.expected(b.Context(), g.Nodes[1])
	if err != nil {
		b.Fatal(err)
	}
	return id.key, c.Cache
}

// stageRecord returns the record of the stage's last step.
func (b *bench) stageRecord(g *parser.Graph) *cache.Record {
	b.Helper()
	key, store := b.stageKey(g)
	r, err := store.Get(key)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// TestStageThatRanAgain: what is remembered of the files of a stage is of the run
// that they came from. After another run all files come from that one.
func TestStageThatRanAgain(t *testing.T) {
	b := newBench(t)
	b.build(stageOf("second", "/a"))
	second := b.stageRecord(stageOf("second", "/a"))
	if o := b.build(stageOf("first", "/a")); o.file(t, "a") != "first" {
		t.Error("the first build holds something else")
	}
	b.build(stageOf("first", "/a")).want(t, "", "step a, step b, step copy /a")
	key, store := b.stageKey(stageOf("first", "/a"))
	second.Key = key
	if err := store.Put(second); err != nil {
		t.Fatal(err)
	}
	o := b.build(stageOf("first", "/a", "/b"))
	if a, b := o.file(t, "a"), o.file(t, "b"); a != "second" || b != "second" {
		t.Errorf("a is of the %s run, b of the %s", a, b)
	}
	b.build(stageOf("first", "/a", "/b")).want(t, "", "step a, step b, step copy /a, step copy /b")
}

// TestStageWithoutRecord: a stage that nothing is known of but contents runs, so
// that all files come from that run.
func TestStageWithoutRecord(t *testing.T) {
	b := newBench(t)
	b.build(stageOf("text", "/a"))
	key, store := b.stageKey(stageOf("text", "/a"))
	if err := store.Remove(key); err != nil {
		t.Fatal(err)
	}
	b.build(stageOf("text", "/a")).want(t, "step b", "step a, step copy /a")
	b.build(stageOf("text", "/a")).want(t, "", "step a, step b, step copy /a")
}

// loseStage builds a stage with a copy of its /a, and makes the record of its last
// step, whose key it returns, name a lost layer of which contents are remembered.
func (b *bench) loseStage() (cache.Key, *cache.Store) {
	b.Helper()
	b.build(stageOf("text", "/a"))
	r := b.stageRecord(stageOf("text", "/a"))
	r.Outputs = []cache.Output{{Layers: []string{"lost"}}}
	key, store := b.stageKey(stageOf("text", "/a"))
	n := stageOf("text", "/a").Nodes[2]
	taken := fileOp{n, n.Op.(parser.FileOp)}.inputs()[0].sel.String()
	if err := errors.Join(store.Put(r), store.PutContent([]string{"lost"}, taken, digest.FromString("other"))); err != nil {
		b.Fatal(err)
	}
	return key, store
}

// TestLostStage: a stage whose layers turn out to be lost, after keys were made of
// what is remembered of them, runs, and the keys are made again.
func TestLostStage(t *testing.T) {
	b := newBench(t)
	key, store := b.loseStage()
	if Planned(t.Context(), stageOf("text", "/a"), b.config()) {
		t.Error("planned with a stage that has to run")
	}
	o := b.build(stageOf("text", "/a"))
	o.want(t, "step b", "step a, step copy /a")
	if got := o.file(t, "a"); got != "text" {
		t.Errorf("the result holds %q", got)
	}
	if r, err := store.Get(key); errors.Is(err, fs.ErrNotExist) || r != nil && r.Outputs[0].Layers[0] == "lost" {
		t.Errorf("the record is %+v, %v", r, err)
	}
}

// TestOpenLostStage is TestLostStage for files that a Dockerfile is read from.
func TestOpenLostStage(t *testing.T) {
	b := newBench(t)
	b.loseStage()
	g := stageOf("text", "/a")
	files, err := Open(t.Context(), g, parser.Input{Node: g.Nodes[2]}, b.config())
	if err != nil {
		t.Fatal(err)
	}
	if e, ok, err := files.Lookup("a"); err != nil || !ok || e.Size != int64(len("text")) {
		t.Errorf("a: %+v, %t, %v", e, ok, err)
	}
}
