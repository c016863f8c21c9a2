package builder

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// identity is a step's key with the recipe it was made from.
type identity struct {
	key    cache.Key
	recipe cache.Recipe
	// remembered: a content digest was taken from memory rather than from the
	// files.
	remembered bool
	// until are the nodes that have to run before there is a key; empty when there
	// is one.
	until []*parser.Node
}

// planned is what a planner knows of a node.
type planned struct {
	node   *parser.Node
	op     op
	inputs []input
	// forced steps run even when a record exists.
	forced bool

	naming sync.Mutex // held while the key is made
	named  bool
	name   identity
	err    error

	mu sync.Mutex
	// read: what is written down of the step was asked for, and is what it yields in
	// this build from then on.
	read bool
	rec  *cache.Record
	// recalled: keys of others were made of what is remembered of the layers.
	recalled bool
	// lost: the layers cannot be used, and the step runs.
	lost bool
	// final is the key under which the result stands; nil for the expected one.
	final *identity
}

func newPlanner(g *parser.Graph, c *Config, facts Facts, blame func(context.Context, *parser.Node, error) error) (*planner, error) {
	p := &planner{facts: facts, blame: blame, nodes: make(map[*parser.Node]*planned, len(g.Nodes))}
	for _, n := range g.Nodes {
		o, err := newOp(n, c)
		if err != nil {
			return nil, err
		}
		s := &planned{node: n, op: o, inputs: o.inputs(), forced: n.NoCache}
		for i := range s.inputs {
			in := &s.inputs[i]
			if in.from.Node == nil {
				continue
			}
			from := p.nodes[in.from.Node]
			if in.sel == nil && from.op.kind() == filesKind {
				whole := fileop.Subtree("/")
				in.sel = &whole
			}
			s.forced = s.forced || in.sel == nil && from.forced
		}
		p.nodes[n] = s
	}
	return p, nil
}

// expected returns the node's key as far as it can be known now. What others have
// yielded is taken from what is remembered of it, where possible.
func (p *planner) expected(ctx context.Context, n *parser.Node) (identity, error) {
	s := p.nodes[n]
	s.naming.Lock()
	defer s.naming.Unlock()
	if s.named {
		return s.name, s.err
	}
	id, err := p.identity(ctx, n, p.expected, p.recall)
	err = p.blame(ctx, n, err)
	if err != nil || len(id.until) == 0 {
		s.named, s.name, s.err = true, id, err
	}
	return id, err
}

// final returns the key under which the result of a node stands that has run. It
// differs from what was expected when a remembered digest was out of date.
func (p *planner) final(ctx context.Context, n *parser.Node) (identity, error) {
	if id, ok := p.nodes[n].known(); ok {
		return id, nil
	}
	return p.expected(ctx, n)
}

// known returns the key of a step as far as it was made.
func (s *planned) known() (identity, bool) {
	s.mu.Lock()
	final := s.final
	s.mu.Unlock()
	if final != nil {
		return *final, true
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	return s.name, s.named && s.err == nil
}

// actual returns the key of a node whose inputs have run, made of what they yielded.
func (p *planner) actual(ctx context.Context, n *parser.Node) (identity, error) {
	id, err := p.identity(ctx, n, p.final, func(ctx context.Context, in input) (identity, digest.Digest, error) {
		d, err := p.facts.Digest(ctx, in.from, *in.sel)
		return identity{}, d, err
	})
	if err == nil && len(id.until) > 0 {
		err = fmt.Errorf("the key of %s is not known although its inputs have run", n.Name)
	}
	if err != nil {
		return id, err
	}
	s := p.nodes[n]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.final = &id
	return id, nil
}

// identity makes a node's key. keyOf returns the key of what an input comes from, and
// contentOf the digest of what is selected of it.
func (p *planner) identity(ctx context.Context, n *parser.Node,
	keyOf func(context.Context, *parser.Node) (identity, error),
	contentOf func(context.Context, input) (identity, digest.Digest, error),
) (id identity, err error) {
	s := p.nodes[n]
	s.op.describe(&id.recipe)
	if s.op.kind() == imageKind {
		base, err := p.facts.Base(ctx, n)
		if err != nil {
			return id, err
		}
		id.recipe.AddList("base layers", base.Layers...).From = base.Name
	}
	from := make([]identity, len(s.inputs))
	values := make([][]string, len(s.inputs))
	look := func(ctx context.Context, i int) (err error) {
		in := s.inputs[i]
		if in.sel == nil {
			from[i], err = keyOf(ctx, in.from.Node)
			values[i] = []string{from[i].key.String(), strconv.Itoa(in.from.Output)}
			return err
		}
		var d digest.Digest
		if from[i], d, err = contentOf(ctx, in); err != nil {
			return err
		}
		if d == "" && len(from[i].until) == 0 {
			from[i].until = []*parser.Node{in.from.Node}
			if p.ahead != nil {
				p.ahead(in.from.Node)
			}
		}
		values[i] = []string{d.String()}
		return nil
	}
	if err := p.eachInput(ctx, s, look); err != nil {
		return id, err
	}
	for i, in := range s.inputs {
		part := id.recipe.AddList(in.part, values[i]...)
		part.Kind, part.From = p.provenance(in, from[i])
		id.remembered = id.remembered || from[i].remembered
		for _, n := range from[i].until {
			if !slices.Contains(id.until, n) {
				id.until = append(id.until, n)
			}
		}
	}
	if len(id.until) == 0 {
		id.key = id.recipe.Key()
	}
	return id, nil
}

// provenance says for people what an input is, and where it comes from.
func (p *planner) provenance(in input, from identity) (cache.PartKind, string) {
	n := p.addedLast(in.from.Node)
	switch {
	case n == nil:
		return cache.After, ""
	case in.sel == nil && p.nodes[n].op.kind() == imageKind:
		return cache.Base, from.recipe[len(from.recipe)-1].From
	case in.sel == nil:
		return cache.After, n.Name
	case p.nodes[n].op.kind() == filesKind:
		return cache.Content, ""
	}
	return cache.Content, n.Name
}

// addedLast is the step whose layers are the last of what n yields: n, or what a chain was
// put together of.
func (p *planner) addedLast(n *parser.Node) *parser.Node {
	for n != nil && p.nodes[n].op.kind() == chainKind && len(n.Inputs) > 0 {
		n = n.Inputs[len(n.Inputs)-1].Node
	}
	return n
}

// eachInput calls look with the index of each input: concurrently for those that other
// steps yield, and then for files of the user's. So what is wrong with a step that others
// stand on is found before what is wrong with these.
func (p *planner) eachInput(ctx context.Context, s *planned, look func(context.Context, int) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	var files []int
	for i, in := range s.inputs {
		switch {
		case in.from.Node == nil:
		case p.nodes[in.from.Node].op.kind() == filesKind:
			files = append(files, i)
		default:
			group.Go(func() error { return look(groupCtx, i) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, i := range files {
		if err := look(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// recall returns the digest of what is selected of an input: that which is remembered,
// if no step has to run to know which layers these are, and else that of the files, if
// they are there already. The identity says whether it is remembered, or what has to run
// before this can be known.
func (p *planner) recall(ctx context.Context, in input) (identity, digest.Digest, error) {
	if p.nodes[in.from.Node].op.kind() != filesKind {
		names, until, err := p.layers(ctx, in.from)
		if err != nil || len(until) > 0 {
			return identity{until: until}, "", err
		}
		if names != nil {
			if d := p.facts.Remembered(names, *in.sel); d != "" && p.hold(in.from) {
				return identity{remembered: true}, d, nil
			}
		}
	}
	d, err := p.facts.Digest(ctx, in.from, *in.sel)
	return identity{}, d, err
}

// layers names the layers of an input as they are written down; nil when a step has to
// run to know them.
func (p *planner) layers(ctx context.Context, in parser.Input) (names []string, until []*parser.Node, err error) {
	if in.Node == nil {
		return []string{}, nil, nil
	}
	s := p.nodes[in.Node]
	switch o := s.op.(type) {
	case mergeOp:
		all := []string{}
		for _, of := range in.Node.Inputs {
			names, until, err := p.layers(ctx, of)
			if err != nil || len(until) > 0 || names == nil {
				return nil, until, err
			}
			all = append(all, names...)
		}
		return all, nil, nil
	case diffOp:
		return p.layersOfDiff(ctx, o)
	case imageOp:
		base, err := p.facts.Base(ctx, in.Node)
		return base.Layers, nil, err
	}
	id, err := p.expected(ctx, in.Node)
	if err != nil || len(id.until) > 0 || s.forced {
		return nil, id.until, err
	}
	r := s.record(p.facts, id.key)
	if r == nil || in.Output < 0 || in.Output >= len(r.Outputs) {
		return nil, nil, nil
	}
	return r.Outputs[in.Output].Layers, nil, nil
}

func (p *planner) layersOfDiff(ctx context.Context, o diffOp) (names []string, until []*parser.Node, err error) {
	known := true
	lower, upper, err := sides(o, func(in parser.Input) ([]string, error) {
		names, first, err := p.layers(ctx, in)
		until = append(until, first...)
		known = known && names != nil
		return names, err
	})
	if err != nil || len(until) > 0 || !known || len(lower) > len(upper) || !slices.Equal(lower, upper[:len(lower)]) {
		return nil, until, err
	}
	return upper[len(lower):], nil, nil
}

// record returns what is written down of the step under its key. It is asked for once:
// what is remembered of the contents of its layers decides keys of other steps, so from
// then on these layers are what the step yields in this build.
func (s *planned) record(facts Facts, key cache.Key) *cache.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read {
		s.read, s.rec = true, facts.Record(key)
	}
	return s.rec
}

// result returns what the record of the step says, if it can be used. It fails with a
// lostError if keys were made of it and it cannot.
func (s *planned) result(facts Facts, r *cache.Record) (_ []layers.Chain, ok bool, err error) {
	if chains, ok := facts.Result(r); ok {
		return chains, true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recalled {
		return nil, false, &lostError{key: r.Key}
	}
	s.lost = true
	return nil, false, nil
}

// hold makes the recorded layers of an input its result in this build. It reports false
// when they are lost.
func (p *planner) hold(in parser.Input) bool {
	if in.Node == nil {
		return true
	}
	s := p.nodes[in.Node]
	if s.op.kind() == chainKind {
		return !slices.ContainsFunc(in.Node.Inputs, func(of parser.Input) bool { return !p.hold(of) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recalled = true
	return !s.lost
}

// touch says of all steps that have a key that they were of use, also of those below
// one whose record was read: when that one has to run again, they are wanted.
func (p *planner) touch(c *cache.Store) {
	for _, s := range p.nodes {
		if id, ok := s.known(); ok {
			c.Used(id.key)
		}
	}
}
