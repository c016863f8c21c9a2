package builder

import (
	"context"
	"errors"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// diffOp is what the upper chain has over the lower one.
type diffOp struct {
	node *parser.Node
	op   parser.Diff
}

func (diffOp) kind() kind { return chainKind }

func (o diffOp) inputs() []input { return rootInputs("side", o.node) }

func (o diffOp) describe(r *cache.Recipe) {
	var f cache.Fields
	f.Flag("lower", o.op.HasLower)
	f.Flag("upper", o.op.HasUpper)
	r.Add("operation", "diff")
	r.Add("sides", f.String())
}

// sides returns what of says of the lower and the upper input.
func sides[T any](o diffOp, of func(parser.Input) (T, error)) (lower, upper T, err error) {
	if o.op.HasLower {
		if lower, err = of(o.node.Inputs[0]); err != nil {
			return lower, upper, err
		}
	}
	if o.op.HasUpper {
		upper, err = of(o.node.Inputs[len(o.node.Inputs)-1])
	}
	return lower, upper, err
}

func (o diffOp) run(ctx context.Context, e *engine) (value, error) {
	lower, upper, err := sides(o, func(in parser.Input) (layers.Chain, error) { return e.chainOf(ctx, in) })
	if err != nil {
		return value{}, err
	}
	for i, l := range lower {
		if i >= len(upper) || upper[i].ID != l.ID {
			return value{}, errors.New("the difference of two images that do not build on one another cannot be taken")
		}
	}
	return value{chains: []layers.Chain{upper[len(lower):]}}, nil
}
