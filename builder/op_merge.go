package builder

import (
	"context"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// mergeOp lays chains over one another (COPY --link). The first input comes whole; of
// the others too, as they were made on nothing.
type mergeOp struct{ node *parser.Node }

func (mergeOp) kind() kind { return chainKind }

func (o mergeOp) inputs() []input { return rootInputs("layer", o.node) }

func (mergeOp) describe(r *cache.Recipe) { r.Add("operation", "merge") }

func (o mergeOp) run(ctx context.Context, e *engine) (value, error) {
	var all layers.Chain
	for _, in := range o.node.Inputs {
		if in.Node == nil {
			continue
		}
		c, err := e.chainOf(ctx, in)
		if err != nil {
			return value{}, err
		}
		all = append(all[:len(all):len(all)], c...)
	}
	return value{chains: []layers.Chain{all}}, nil
}

// rootInputs are all inputs of a node, whose layers become its own.
func rootInputs(part string, n *parser.Node) []input {
	list := make([]input, len(n.Inputs))
	for i, in := range n.Inputs {
		list[i] = input{part: part, from: in, root: true}
	}
	return list
}
