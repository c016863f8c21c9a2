package builder

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/web"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// Forecast is what a build would do.
type Forecast struct {
	// Steps are those that people see, in the order of the graph.
	Steps []Foreseen
	// Pull is how many bytes of base images steps would need that are not in the store.
	Pull int64
	// Layers are those of the targets that are there already, without doubles.
	Layers []layers.Layer
}

// Foreseen is what a build would do about one step.
type Foreseen struct {
	Name string
	// Written is the name with the values of secret arguments, to compare with.
	Written string
	State   State // Cached, Run or Unknown
	// Why says why it would run.
	Why []cache.Reason
	// Until are the steps and downloads on whose files it depends.
	Until []string
}

// Foresee plans a build, and runs and writes nothing. Names of images are resolved and
// files hashed as in a build; nothing is downloaded for a step.
func Foresee(ctx context.Context, g *parser.Graph, c Config) (*Forecast, error) {
	c.Events = nil
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e, err := newEngine(ctx, g, c, cancel)
	if err != nil {
		return nil, err
	}
	e.plan.ahead, e.plan.facts = nil, undisturbed{stored{e}}
	e.Layers.LookOnly = true
	p, err := e.plan.plan(ctx, g)
	if err != nil {
		return nil, err
	}
	f := &Forecast{}
	for _, v := range p {
		if v.State == Cached || v.State == NotNeeded {
			e.jobs[v.Node].shown.set(showCached) // reasons ask
		}
	}
	for _, v := range p {
		if e.plan.nodes[v.Node].op.kind() == stepKind {
			f.Steps = append(f.Steps, e.foreseen(ctx, v))
		}
	}
	f.Pull, err = e.missing(ctx, p)
	f.Layers = e.madeLayers(p)
	return f, err
}

// undisturbed are the facts of a build that changes nothing: what has to be downloaded is
// not known, unless the Dockerfile came with it.
type undisturbed struct{ stored }

// Digest implements Facts.
func (u undisturbed) Digest(ctx context.Context, in parser.Input, sel fileop.Selection) (digest.Digest, error) {
	files, err := u.files(ctx, in)
	if files == nil || err != nil {
		return "", err
	}
	content, err := u.bounds.digest(ctx, files, sel)
	if err != nil && ctx.Err() == nil && !u.isFiles(in.Node) {
		// A build makes the layer again, or may read what this user may not.
		return "", nil
	}
	return content, err
}

// files returns an input as files to read, if they are at hand: those of steps that need
// not run are read where they are. Else it returns nil.
func (u undisturbed) files(ctx context.Context, in parser.Input) (source.FS, error) {
	switch u.plan.nodes[in.Node].op.(type) {
	case localOp:
		return u.engine.files(ctx, in)
	case gitOp:
		if u.Git == nil || !u.Git.HasServed(in.Node.Op) {
			return nil, nil
		}
		return u.engine.files(ctx, in)
	case httpOp:
		if u.Web == nil || !u.Web.HasServed(in.Node.Op) {
			return nil, nil
		}
		return u.engine.files(ctx, in)
	}
	names, _, err := u.plan.layers(ctx, in)
	if err != nil || names == nil {
		return nil, err
	}
	var c layers.Chain
	for _, name := range names {
		l, err := u.layer(layers.ID(name))
		if err != nil || !u.Layers.HasTree(l) {
			return nil, nil // it has to be downloaded, unpacked or made again
		}
		c = append(c, l)
	}
	return source.OpenChain(ctx, u.Layers, c)
}

func (e *engine) foreseen(ctx context.Context, v Verdict) Foreseen {
	s := Foreseen{Name: v.Node.Name, Written: v.Node.Written, State: v.State}
	switch v.State {
	case NotNeeded:
		s.State = Cached
	case Run:
		id := identity{key: v.Key, recipe: v.Recipe}
		s.Why = e.reasons(v.Node, id, v.Why, e.listings(ctx, v.Node, id))
	case Unknown:
		for _, n := range v.Until {
			s.Until = append(s.Until, e.graph.Redact(neededName(e.plan.nodes[n].op, n)))
		}
	}
	return s
}

// neededName is what people call a node that others depend on: a step's name, or the
// address of a download.
func neededName(o op, n *parser.Node) string {
	switch o := o.(type) {
	case gitOp:
		return cmp.Or(o.op.FullURL, o.op.Remote)
	case httpOp:
		if web.IsOffered(o.op.URL) {
			return "standard input"
		}
		return o.op.URL
	}
	return n.Name
}

// listings returns what contents consist of: those of a step's inputs are listed in
// memory, those of earlier builds are in the store.
func (e *engine) listings(ctx context.Context, n *parser.Node, id identity) func(string) cache.Listing {
	return func(content string) cache.Listing {
		if l := e.Cache.Listing(content); l != nil {
			return l
		}
		parts := id.recipe[len(id.recipe)-len(e.plan.nodes[n].inputs):]
		for i, in := range e.plan.nodes[n].inputs {
			if in.sel == nil || contentOf(parts[i]) != content {
				continue
			}
			l := cache.Listing{}
			files, err := undisturbed{stored{e}}.files(ctx, in.from)
			if files == nil || err != nil {
				return nil
			}
			_, err = fileop.List(ctx, files, *in.sel, func(f cache.File) error { l[f.Path] = f; return nil })
			if err == nil {
				return l
			}
		}
		return nil
	}
}

// missing adds up the layers of base images that a build would download for its steps.
func (e *engine) missing(ctx context.Context, p Plan) (size int64, err error) {
	bases := map[*parser.Node]bool{}
	for _, v := range p {
		if v.State == Run || v.State == Unknown {
			e.basesOf(v.Node, bases)
		}
	}
	for n := range bases {
		v, err := e.resolve(ctx, n)
		if err != nil {
			return 0, err
		}
		for _, l := range v.chains[0] {
			if !e.Layers.Blobs.Has(l.Descriptor) {
				size += l.Descriptor.Size
			}
		}
	}
	return size, nil
}

// basesOf finds the base images that a node stands on.
func (e *engine) basesOf(n *parser.Node, found map[*parser.Node]bool) {
	if n == nil || found[n] {
		return
	}
	if e.plan.nodes[n].op.kind() == imageKind {
		found[n] = true
	}
	for _, in := range e.plan.nodes[n].inputs {
		if in.sel == nil {
			e.basesOf(in.from.Node, found)
		}
	}
}

// madeLayers are the targets' layers as far as they are known.
func (e *engine) madeLayers(p Plan) (list []layers.Layer) {
	results := map[*parser.Node]Verdict{}
	for _, v := range p {
		results[v.Node] = v
	}
	for _, t := range e.graph.Targets {
		v, ok := results[t.Node]
		if !ok || t.Output >= len(v.Result) {
			continue
		}
		for _, l := range v.Result[t.Output] {
			if !slices.ContainsFunc(list, func(o layers.Layer) bool { return o.ID == l.ID }) {
				list = append(list, l)
			}
		}
	}
	return list
}
