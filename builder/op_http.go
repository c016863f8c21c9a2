package builder

import (
	"context"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/parser"
)

// httpOp is one downloaded file.
type httpOp struct {
	readsNothing
	node *parser.Node
	op   parser.HTTP
}

func (httpOp) kind() kind { return filesKind }

func (o httpOp) run(ctx context.Context, e *engine) (value, error) {
	return e.remote(ctx, o.node, func() (source.FS, error) { return e.Web.Files(ctx, o.op) })
}
