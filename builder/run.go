package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// compute is the one switch over what a node can be.
func (e *engine) compute(ctx context.Context, n *parser.Node) (value, error) {
	switch op := n.Op.(type) {
	case parser.Exec:
		return e.step(ctx, n, func() (value, error) { return e.exec(ctx, n, op) })
	case parser.FileOp:
		return e.step(ctx, n, func() (value, error) { return e.file(ctx, n, op) })
	case parser.Merge:
		return e.merge(ctx, n)
	case parser.Diff:
		return e.diff(ctx, n, op)
	case parser.Image, parser.OCILayout:
		return e.image(ctx, n)
	case parser.Local:
		return e.local(n, op)
	case parser.Git:
		return e.remote(ctx, n, func() (source.FS, error) { return e.Remotes.Git(ctx, op) })
	case parser.HTTP:
		return e.remote(ctx, n, func() (source.FS, error) { return e.Remotes.HTTP(ctx, op) })
	}
	return value{}, fmt.Errorf("%T is no operation", n.Op)
}

// image finds the layers of a base image. Their bytes come when they are
// needed.
func (e *engine) image(ctx context.Context, n *parser.Node) (value, error) {
	c, err := e.Images.Chain(ctx, n.Op, n.Platform)
	if err != nil {
		return value{}, err
	}
	missing := slices.ContainsFunc(c, func(l layers.Layer) bool { return !e.Layers.Has(l.Descriptor) })
	if missing {
		e.instant(n)
	} else {
		e.cached(n)
	}
	return value{chains: []layers.Chain{c}}, nil
}

func (e *engine) local(n *parser.Node, op parser.Local) (value, error) {
	l, ok := e.Locals[op.Name]
	if !ok {
		return value{}, fmt.Errorf("there is no local directory called %q", op.Name)
	}
	e.instant(n)
	return value{files: l.Select(op)}, nil
}

// remote gets files from a server. Whether those in the store are the newest is
// asked in every build, so even files that are there already take some time.
func (e *engine) remote(ctx context.Context, n *parser.Node, get func() (source.FS, error)) (value, error) {
	if e.Remotes == nil {
		return value{}, errors.New("nothing can be downloaded in this build")
	}
	e.started(n, time.Now())
	files, err := get()
	e.ended(ctx, n, err)
	return value{files: files}, err
}

// merge lays chains over one another. The first input comes whole; of the
// others too, as they were made on nothing.
func (e *engine) merge(ctx context.Context, n *parser.Node) (value, error) {
	if err := e.resolveInputs(ctx, n); err != nil {
		return value{}, err
	}
	id, err := e.recipe(ctx, n, true)
	if err != nil {
		return value{}, err
	}
	e.jobs[n].final = &id
	var all layers.Chain
	for _, in := range n.Inputs {
		if in.Node == nil {
			continue
		}
		c, err := e.chainOf(ctx, in)
		if err != nil {
			return value{}, err
		}
		all = append(all[:len(all):len(all)], c...)
	}
	e.instant(n)
	return value{chains: []layers.Chain{all}}, nil
}

// diff is what the upper chain has over the lower one.
func (e *engine) diff(ctx context.Context, n *parser.Node, op parser.Diff) (value, error) {
	if err := e.resolveInputs(ctx, n); err != nil {
		return value{}, err
	}
	var lower, upper layers.Chain
	var err error
	if op.HasLower {
		if lower, err = e.chainOf(ctx, n.Inputs[0]); err != nil {
			return value{}, err
		}
	}
	if op.HasUpper {
		if upper, err = e.chainOf(ctx, n.Inputs[len(n.Inputs)-1]); err != nil {
			return value{}, err
		}
	}
	for i, l := range lower {
		if i >= len(upper) || upper[i].ID != l.ID {
			return value{}, errors.New("the difference of two images that do not build on one another cannot be taken")
		}
	}
	e.instant(n)
	return value{chains: []layers.Chain{upper[len(lower):]}}, nil
}
