package builder

import (
	"context"
	"slices"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// imageOp is a base image. Its layers' bytes come when they are needed.
type imageOp struct {
	readsNothing
	node *parser.Node
}

func (imageOp) kind() kind { return imageKind }

func (imageOp) describe(r *cache.Recipe) { r.Add("operation", "image") }

func (o imageOp) run(ctx context.Context, e *engine) (value, error) {
	c, err := e.Images.Chain(ctx, o.node.Op, o.node.Platform)
	if err != nil {
		return value{}, err
	}
	if slices.ContainsFunc(c, func(l layers.Layer) bool { return !e.Layers.Blobs.Has(l.Descriptor) }) {
		e.instant(o.node)
	} else {
		e.cached(o.node)
	}
	name, err := e.Images.Named(ctx, o.node.Op, o.node.Platform)
	return value{chains: []layers.Chain{c}, image: name}, err
}
