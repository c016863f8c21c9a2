package builder

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// resolve returns what a node yields, from its record or by running it. Every
// node is resolved once in a build.
func (e *engine) resolve(ctx context.Context, n *parser.Node) (value, error) {
	j := e.jobs[n]
	return j.result.get(func() (value, error) {
		v, err := e.compute(ctx, n)
		if err == nil {
			j.done.Store(true)
		}
		return v, e.blame(ctx, n, err)
	})
}

func (e *engine) compute(ctx context.Context, n *parser.Node) (value, error) {
	o := e.plan.nodes[n].op
	switch o.kind() {
	case stepKind:
		return e.step(ctx, n)
	case chainKind:
		if err := e.resolveInputs(ctx, n); err != nil {
			return value{}, err
		}
		if _, err := e.plan.actual(ctx, n); err != nil {
			return value{}, err
		}
		v, err := o.run(ctx, e)
		if err == nil {
			e.instant(n)
		}
		return v, err
	}
	return o.run(ctx, e)
}

// blame says that it was n that failed, unless it is known to be another node. In
// a build that is ending the reason is why it ends: what else fails then, fails
// because of that.
func (e *engine) blame(ctx context.Context, n *parser.Node, err error) error {
	var known *StepError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	n = e.culprit(n, err)
	return &StepError{Node: n, Graph: e.graph, Err: explained(n, err)}
}

// culprit returns the step whose mistake err is about, when that can be told, and
// else n, which came upon it.
func (e *engine) culprit(n *parser.Node, err error) *parser.Node {
	var bad *source.PatternError
	if !errors.As(err, &bad) || bad.Ignore {
		return n
	}
	for _, other := range e.graph.Nodes {
		for _, in := range e.plan.nodes[other].inputs {
			if in.sel != nil && e.isFiles(in.from.Node) && strings.TrimPrefix(in.sel.Source, "/") == bad.Pattern {
				return other
			}
		}
	}
	return n
}

// verdict says what becomes of a step, when what it depends on has run.
func (e *engine) verdict(ctx context.Context, n *parser.Node) (Verdict, error) {
	for {
		v, err := e.plan.verdict(ctx, n)
		if err != nil || v.State != Unknown {
			return v, err
		}
		if err := e.resolveAll(ctx, v.Until); err != nil {
			return v, err
		}
	}
}

// step takes a step's result from its record, or runs it.
func (e *engine) step(ctx context.Context, n *parser.Node) (value, error) {
	v, err := e.verdict(ctx, n)
	if err != nil {
		return value{}, err
	}
	if v.State == Cached {
		e.cached(n)
		return value{chains: v.Result}, nil
	}
	if err := e.resolveInputs(ctx, n); err != nil {
		return value{}, err
	}
	id := identity{key: v.Key, recipe: v.Recipe}
	if v.remembered {
		if id, err = e.plan.actual(ctx, n); err != nil {
			return value{}, err
		}
		if id.key != v.Key && v.Why != NotAsked {
			if found, ok := e.lookUp(id.key); ok {
				e.cached(n)
				return found, nil
			}
		}
	}
	return e.locked(ctx, n, id, v.Why)
}

// locked runs the step, unless another process does so first and its result may be
// taken.
func (e *engine) locked(ctx context.Context, n *parser.Node, id identity, why Why) (value, error) {
	unlock, err := e.Cache.Lock(ctx, id.key, n.Name)
	if err != nil {
		return value{}, err
	}
	defer unlock()
	if why != NotAsked {
		if v, ok := e.lookUp(id.key); ok {
			e.cached(n)
			return v, nil
		}
	}
	start := time.Now()
	e.started(n, start)
	explained := e.explain(ctx, n, id, why)
	v, err := e.plan.nodes[n].op.run(ctx, e)
	explained()
	e.ended(ctx, n, err)
	e.Journal.note(n, func(s *noted) {
		s.took, s.verdict = since(start), verdictOf(ctx, err)
		if c, cerr := v.chain(0); cerr == nil && len(c) > 0 {
			s.layer = c[len(c)-1]
		}
	})
	if err != nil {
		return value{}, err
	}
	return v, e.put(id, n.Name, v, since(start))
}

// resolveInputs resolves all inputs of n, concurrently.
func (e *engine) resolveInputs(ctx context.Context, n *parser.Node) error {
	var list []*parser.Node
	for _, in := range n.Inputs {
		if in.Node != nil {
			list = append(list, in.Node)
		}
	}
	return e.resolveAll(ctx, list)
}

func (e *engine) resolveAll(ctx context.Context, list []*parser.Node) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range list {
		group.Go(func() error {
			_, err := e.resolve(ctx, n)
			return err
		})
	}
	return group.Wait()
}

// chainOf returns the layers of an input. A directory of the user's becomes a
// layer.
func (e *engine) chainOf(ctx context.Context, in parser.Input) (layers.Chain, error) {
	if e.isFiles(in.Node) {
		// As a directory it would need the right to give files away, which a
		// build without any command does not have.
		return e.copied(ctx, in, "/", store.Forms{Tar: true})
	}
	v, err := e.resolve(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	return v.chain(in.Output)
}

// files returns an input as files to read.
func (e *engine) files(ctx context.Context, in parser.Input) (source.FS, error) {
	v, err := e.resolve(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	if v.files != nil {
		return v.files, nil
	}
	c, err := v.chain(in.Output)
	if err != nil {
		return nil, err
	}
	return source.OpenChain(ctx, e.Layers, c)
}

// warn tells of something once: several steps may find the same.
func (e *engine) warn(text string) {
	if _, told := e.told.LoadOrStore(text, true); told {
		return
	}
	e.Events(progress.Warned{Warning: parser.Warning{Short: text}})
}

// isFiles reports whether a node is a source of files rather than of layers.
func (e *engine) isFiles(n *parser.Node) bool {
	return n != nil && e.plan.nodes[n].op.kind() == filesKind
}
