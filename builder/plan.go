package builder

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// Plan says what becomes of each node, in the order of the graph. It is a value:
// whoever acts on it runs what has to run, and plans again what depends on that.
type Plan []Verdict

// Verdict is what becomes of one node.
type Verdict struct {
	Node  *parser.Node
	State State
	// Key is what the result is found under, and Recipe what it was made of. They
	// are missing where State is Unknown or NotNeeded, and of sources of files.
	Key    cache.Key
	Recipe cache.Recipe
	// Result is what a step that is Cached yielded, for each of its outputs.
	Result []layers.Chain
	// Why says why a step runs.
	Why Why
	// Until are the nodes that have to run first where State is Unknown.
	Until []*parser.Node
	// remembered: the key was made of a content digest that is remembered, so the
	// files must be looked at before the step runs.
	remembered bool
}

// State is what becomes of a node.
type State int

const (
	// NotNeeded nodes are below those that are cached.
	NotNeeded State = iota
	// Cached steps have a result already.
	Cached
	// Run is for steps that have none.
	Run
	// Unknown is what becomes of a step that reads files of another one which has
	// to run first.
	Unknown
	// Source is for nodes that are no steps: files, base images, and chains that
	// are put together.
	Source
)

// Why is the reason why a step runs.
type Why int

const (
	// NoRecord: no step with this key is known to have run.
	NoRecord Why = iota + 1
	// NotAsked: the cache is not to be used.
	NotAsked
	// Lost: layers that the record names are not there or cannot be used.
	Lost
)

// Facts is what planning has to know. Facts may cost: files are hashed, servers are
// asked for images. But nothing runs and no layer is written.
type Facts interface {
	// Base returns what a base image is now.
	Base(ctx context.Context, n *parser.Node) (BaseImage, error)
	// Digest digests what sel selects of an input. It returns "" if a step has to run
	// for that.
	Digest(ctx context.Context, in parser.Input, sel fileop.Selection) (digest.Digest, error)
	// Remembered returns a digest of what sel selected of these layers once, or "".
	Remembered(layers []string, sel fileop.Selection) digest.Digest
	// Record returns what is written down of a step; nil for nothing.
	Record(key cache.Key) *cache.Record
	// Result returns what a record names; false when some of it is lost.
	Result(r *cache.Record) ([]layers.Chain, bool)
}

// BaseImage is what a plan knows of a base image: its layers, and for people its name with
// its digest.
type BaseImage struct {
	Name   string
	Layers []string
}

// planner makes the verdicts of one graph, each once, when somebody asks for it.
type planner struct {
	facts Facts
	nodes map[*parser.Node]*planned
	// blame says of an error whose mistake it is; of nil it returns nil.
	blame func(ctx context.Context, n *parser.Node, err error) error
	// ahead is told, as soon as that is known, of nodes that have to run before others
	// can be planned; optional.
	ahead func(n *parser.Node)
}

// verdict says what becomes of a node now. Of a step that is Unknown it can be asked
// again when others have run.
func (p *planner) verdict(ctx context.Context, n *parser.Node) (Verdict, error) {
	s := p.nodes[n]
	v := Verdict{Node: n, State: Source}
	if s.op.kind() == filesKind {
		return v, nil
	}
	id, err := p.expected(ctx, n)
	if err != nil {
		return v, err
	}
	if len(id.until) > 0 {
		v.State, v.Until = Unknown, id.until
		return v, nil
	}
	v.Key, v.Recipe, v.remembered = id.key, id.recipe, id.remembered
	if s.op.kind() != stepKind {
		return v, nil
	}
	v.State = Run
	if s.forced {
		v.Why = NotAsked
		return v, nil
	}
	r := s.record(p.facts, id.key)
	if r == nil {
		v.Why = NoRecord
		return v, nil
	}
	result, ok, err := s.result(p.facts, r)
	if !ok {
		v.Why = Lost
		return v, err
	}
	v.State, v.Result = Cached, result
	return v, nil
}

// plan says what becomes of all nodes, as far as that can be known before any runs.
func (p *planner) plan(ctx context.Context, g *parser.Graph) (Plan, error) {
	all := map[*parser.Node]Verdict{}
	var need func(n *parser.Node) error
	need = func(n *parser.Node) error {
		if _, known := all[n]; known || n == nil {
			return nil
		}
		v, err := p.verdict(ctx, n)
		if err != nil {
			return err
		}
		all[n] = v
		if v.State == Cached {
			return nil
		}
		for _, in := range n.Inputs {
			if err := need(in.Node); err != nil {
				return err
			}
		}
		return nil
	}
	for _, t := range g.Targets {
		if err := errors.Join(need(t.Node), need(t.Scan.Node)); err != nil {
			return nil, err
		}
	}
	list := make(Plan, len(g.Nodes))
	for i, n := range g.Nodes {
		list[i] = all[n]
		list[i].Node = n
	}
	return list, nil
}

// Settled reports whether nothing has to run.
func (p Plan) Settled() bool {
	return !slices.ContainsFunc(p, func(v Verdict) bool { return v.State == Run || v.State == Unknown })
}

// Planned reports whether everything g needs is there already, so that Build would run
// no step and read no file that may belong to others. It runs nothing, and what it
// learns stays: files that were hashed are not hashed again. Whatever hinders it is for
// Build to report; it is no plan then.
func Planned(ctx context.Context, g *parser.Graph, c Config) bool {
	c.Events = nil
	done, err := once(ctx, g, c, func(ctx context.Context, e *engine) (bool, error) {
		e.plan.ahead = nil
		return e.isThere(ctx)
	})
	return done && err == nil
}

// isThere reports whether all that the targets need is in the store.
func (e *engine) isThere(ctx context.Context) (bool, error) {
	p, err := e.plan.plan(ctx, e.graph)
	if err != nil || !p.Settled() || e.copies(p) {
		return false, err
	}
	for _, t := range e.graph.Targets {
		if t.Scan.Node != nil {
			if _, err := e.chainOf(ctx, t.Scan); err != nil {
				return false, err
			}
		}
		if t.Node == nil {
			continue
		}
		// Nothing runs for it any more.
		c, err := e.chainOf(ctx, parser.Input{Node: t.Node, Output: t.Output})
		if err != nil {
			return false, err
		}
		c, ok, err := e.squashedBefore(t, c)
		if !ok || err != nil {
			return false, err
		}
		for _, l := range c {
			if !e.Blobs {
				break
			}
			if ok, err := e.Layers.Convertible(ctx, l, e.packs.wanted); !ok || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// copies reports whether files of the user's have to be made a layer although no step
// runs.
func (e *engine) copies(p Plan) bool {
	if slices.ContainsFunc(e.graph.Targets, func(t parser.Target) bool { return e.isFiles(t.Node) }) {
		return true
	}
	return slices.ContainsFunc(p, func(v Verdict) bool {
		return v.State == Source && slices.ContainsFunc(v.Node.Inputs, func(in parser.Input) bool { return e.isFiles(in.Node) })
	})
}

// Runs reports whether g has any command in it: without one, a build needs no
// privileges at all.
func Runs(g *parser.Graph) bool {
	return slices.ContainsFunc(g.Nodes, func(n *parser.Node) bool {
		_, ok := n.Op.(parser.Exec)
		return ok
	})
}
