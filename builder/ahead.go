package builder

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/parser"
)

// ahead does, concurrently, what the recipe of n would do one after the other:
// naming its inputs, and running the sources whose content nobody remembers. It
// runs nothing that the recipe would not.
func (e *engine) ahead(ctx context.Context, n *parser.Node) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range readings(n) {
		if r.from.Node == nil || isFiles(r.from.Node) {
			continue
		}
		group.Go(func() error {
			_, err := e.identify(ctx, r.from.Node)
			if err != nil || r.taken == nil {
				return err
			}
			if _, ok := e.recall(ctx, r); ok {
				return nil
			}
			_, err = e.resolve(ctx, r.from.Node)
			return err
		})
	}
	return group.Wait()
}
