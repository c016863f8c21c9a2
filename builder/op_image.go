package builder

import (
	"context"
	"slices"
	"strings"

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
	if slices.ContainsFunc(c, func(l layers.Layer) bool { return !e.Layers.Has(l.Descriptor) }) {
		e.instant(o.node)
	} else {
		e.cached(o.node)
	}
	return value{chains: []layers.Chain{c}}, nil
}

// name is the image as it was asked for, with its digest where that is known.
func (o imageOp) name() string {
	switch op := o.node.Op.(type) {
	case parser.Image:
		return op.Ref
	case parser.OCILayout:
		return op.StoreID + strings.TrimPrefix(op.Ref, op.StoreID)
	}
	return o.node.Name
}
