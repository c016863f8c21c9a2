package builder

import (
	"context"
	"fmt"

	"github.com/sinter-build/sinter/parser"
)

// localOp is a directory of the user's.
type localOp struct {
	readsNothing
	node *parser.Node
	op   parser.Local
}

func (localOp) kind() kind { return filesKind }

func (o localOp) run(_ context.Context, e *engine) (value, error) {
	l, ok := e.Locals[o.op.Name]
	if !ok {
		return value{}, fmt.Errorf("local directory %q not found", o.op.Name)
	}
	e.instant(o.node)
	return value{files: l.Select(o.op)}, nil
}
