package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// resolve returns what a node yields, from its record or by running it. Every
// node is resolved once in a build.
func (e *engine) resolve(ctx context.Context, n *parser.Node) (value, error) {
	return e.jobs[n].result.get(func() (value, error) {
		v, err := e.compute(ctx, n)
		return v, e.blame(ctx, n, err)
	})
}

// blame says that it was n that failed, unless it is known to be another node. In
// a build that is ending the reason is why it ends: what else fails then, fails
// because of that.
func (e *engine) blame(ctx context.Context, n *parser.Node, err error) error {
	var known *StepError
	switch {
	case err == nil || errors.As(err, &known) || errors.Is(err, errPlanOnly):
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
		for _, r := range readings(other) {
			if r.taken != nil && r.from.Node != nil && isFiles(r.from.Node) && strings.TrimPrefix(r.taken.Source, "/") == bad.Pattern {
				return other
			}
		}
	}
	return n
}

// step is the plan for one step: a record, or a run.
func (e *engine) step(ctx context.Context, n *parser.Node, run func() (value, error)) (value, error) {
	j := e.jobs[n]
	id, err := e.identify(ctx, n)
	if err != nil {
		return value{}, err
	}
	if v, ok, err := e.fromRecord(ctx, n); ok || err != nil {
		if ok {
			e.cached(n)
		}
		return v, err
	}
	if e.planOnly {
		return value{}, errPlanOnly
	}
	if err := e.resolveInputs(ctx, n); err != nil {
		return value{}, err
	}
	if id.remembered {
		before := id.key
		if id, err = e.recipe(ctx, n, true); err != nil {
			return value{}, err
		}
		j.final = &id
		if id.key != before && !j.forced {
			if v, ok := e.lookUp(ctx, id.key); ok {
				e.cached(n)
				return v, nil
			}
		}
	}
	return e.locked(ctx, n, id, run)
}

// locked runs the step, unless another process does so first.
func (e *engine) locked(ctx context.Context, n *parser.Node, id identity, run func() (value, error)) (value, error) {
	unlock, err := e.Cache.Lock(ctx, id.key, n.Name)
	if err != nil {
		return value{}, err
	}
	defer unlock()
	if !e.jobs[n].forced {
		if v, ok := e.lookUp(ctx, id.key); ok {
			e.cached(n)
			return v, nil
		}
	}
	start := time.Now()
	e.started(n, start)
	v, err := run()
	e.ended(ctx, n, err)
	if err != nil {
		return value{}, err
	}
	return v, e.put(id, n.Name, v, since(start))
}

// put writes down what a step yielded.
func (e *engine) put(id identity, name string, v value, took time.Duration) error {
	r := newRecord(id, name, v)
	r.Duration, r.Created = took, time.Now().UTC()
	return e.Cache.Put(r)
}

func newRecord(id identity, name string, v value) *cache.Record {
	r := &cache.Record{Key: id.key, Name: name}
	// The parts are for people; the key has been made.
	for _, p := range id.recipe {
		r.Parts.Add(p.Name, parser.Redact(p.Value))
	}
	for _, c := range v.chains {
		r.Outputs = append(r.Outputs, cache.Output{Layers: layerNames(c)})
	}
	return r
}

// lookUp returns what the record of key says, if it can be believed.
func (e *engine) lookUp(ctx context.Context, key cache.Key) (value, bool) {
	r, err := e.readRecord(key)
	if err != nil {
		e.warnOfRecord(err)
		return value{}, false
	}
	return e.believed(ctx, r)
}

// readRecord reads a record and claims the layers that it names: they stay as long as
// this build runs.
func (e *engine) readRecord(key cache.Key) (r *cache.Record, err error) {
	err = e.Layers.ClaimFound(func() (parts []string, err error) {
		if r, err = e.Cache.Get(key); err != nil {
			return nil, err
		}
		for _, o := range r.Outputs {
			for _, name := range o.Layers {
				parts = append(parts, store.LayerPart(layers.ID(name)))
			}
		}
		return parts, nil
	})
	return r, err
}

// believed returns what a record says, if all the layers it names are there.
func (e *engine) believed(ctx context.Context, r *cache.Record) (value, bool) {
	v := value{chains: []layers.Chain{}}
	for _, o := range r.Outputs {
		c := make(layers.Chain, 0, len(o.Layers))
		for _, name := range o.Layers {
			l, err := e.layer(layers.ID(name))
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					e.warn(fmt.Sprintf("a cached layer cannot be used, the step will run: %v", err))
				}
				return value{}, false
			}
			c = append(c, l)
		}
		v.chains = append(v.chains, c)
	}
	return v, true
}

// layer returns a layer that can be used.
func (e *engine) layer(id layers.ID) (layers.Layer, error) {
	l, err := e.Layers.Get(id)
	if err != nil {
		return l, err
	}
	err = e.Layers.Usable(l)
	if errors.Is(err, store.ErrNoForm) {
		// Not once for each layer: in a store that was copied it is about many.
		err = errCopied
	}
	return l, err
}

// errCopied is about layers of which there is nothing but a directory that was not
// made here.
var errCopied = errors.New("its only form is a directory that was not made here, or with other user IDs: the store was copied or changed, or /etc/subuid was")

// resolveInputs resolves all inputs of n, concurrently.
func (e *engine) resolveInputs(ctx context.Context, n *parser.Node) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, in := range n.Inputs {
		if in.Node == nil {
			continue
		}
		group.Go(func() error {
			_, err := e.resolve(ctx, in.Node)
			return err
		})
	}
	return group.Wait()
}

// chainOf returns the layers of an input. A directory of the user's becomes a
// layer.
func (e *engine) chainOf(ctx context.Context, in parser.Input) (layers.Chain, error) {
	if isFiles(in.Node) {
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
