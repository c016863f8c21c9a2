package builder

import (
	"context"
	"time"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/parser"
)

// gitOp is a repository at a commit.
type gitOp struct {
	readsNothing
	node *parser.Node
	op   parser.Git
}

func (gitOp) kind() kind { return filesKind }

func (o gitOp) run(ctx context.Context, e *engine) (value, error) {
	return e.remote(ctx, o.node, func() (source.FS, error) { return e.Git.Files(ctx, o.op) })
}

// remote gets files from a server. Whether those in the store are the newest is
// asked in every build, so even files that are there already take some time.
func (e *engine) remote(ctx context.Context, n *parser.Node, get func() (source.FS, error)) (value, error) {
	e.started(n, time.Now())
	files, err := get()
	e.ended(ctx, n, err)
	return value{files: files}, err
}
