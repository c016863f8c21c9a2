package builder

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// Span is a run of a chain's layers: those from From up to, but without, To.
type Span struct{ From, To int }

// StepLayers says which layers of a target come from which steps: of each step on the
// target's own path (by the ID of its node) those that the target has of it and of the
// steps below it, which for COPY --link do not begin with the lowest; and of the images
// that other stages begin with, their layers. Nothing is run for that, so steps whose
// records are gone are left out. Of a target whose layers were squashed only images are
// known.
func (r TargetResult) StepLayers(ctx context.Context) (own map[digest.Digest]Span, images map[digest.Digest]layers.Chain, err error) {
	if r.steps == nil {
		return nil, nil, nil
	}
	return r.steps(ctx)
}

// stepLayers is StepLayers of the target t, which has yielded chain.
func (e *engine) stepLayers(ctx context.Context, t parser.Target, chain layers.Chain) (own map[digest.Digest]Span, images map[digest.Digest]layers.Chain, err error) {
	own, images = map[digest.Digest]Span{}, map[digest.Digest]layers.Chain{}
	for _, n := range e.graph.Below(t) {
		if e.plan.nodes[n].op.kind() != imageKind {
			continue
		}
		c, err := e.Images.Chain(ctx, n.Op, n.Platform)
		if err != nil {
			return nil, nil, err
		}
		images[n.ID] = c
	}
	if e.Squash {
		return own, images, nil
	}
	all := layerNames(chain)
	type place struct {
		in parser.Input
		at int // how many of the target's layers are below it
	}
	path := []place{{in: parser.Input{Node: t.Node, Output: t.Output}}}
	for len(path) > 0 {
		p := path[len(path)-1]
		path = path[:len(path)-1]
		if p.in.Node == nil || e.isFiles(p.in.Node) {
			continue
		}
		names, err := e.layerNamesOf(ctx, p.in)
		if err != nil {
			return nil, nil, err
		}
		if to := p.at + len(names); names != nil && to <= len(all) && slices.Equal(names, all[p.at:to]) {
			own[p.in.Node.ID] = Span{p.at, to}
		}
		_, merges := p.in.Node.Op.(parser.Merge)
		for _, i := range e.plan.nodes[p.in.Node].inputs {
			if !i.root {
				continue
			}
			path = append(path, place{i.from, p.at})
			if !merges || i.from.Node == nil {
				continue
			}
			below, err := e.layerNamesOf(ctx, i.from)
			if err != nil {
				return nil, nil, err
			}
			if below == nil {
				break // where the others begin is unknown
			}
			p.at += len(below)
		}
	}
	return own, images, nil
}

// layerNamesOf names the layers of an input: those that it has yielded in this build, else
// those that are written down; nil if a step would have to run to know them.
func (e *engine) layerNamesOf(ctx context.Context, in parser.Input) ([]string, error) {
	if e.jobs[in.Node].done.Load() {
		chain, err := e.chainOf(ctx, in)
		return layerNames(chain), err
	}
	names, until, err := e.plan.layers(ctx, in)
	if len(until) > 0 {
		names = nil
	}
	return names, err
}
