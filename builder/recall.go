package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// lostError says that keys were made of the contents of layers that turned out to
// be lost, so that the build has to be planned again.
type lostError struct{ key cache.Key }

func (e *lostError) Error() string {
	return fmt.Sprintf("the layers of step %s were lost while the build went on", e.key)
}

// replanned calls do with a new plan as often as the layers of a step turn out to be
// lost. Without its record the step then runs, and everybody sees the new result.
//
// A layer whose directory somebody changed fails the build. Others may have been changed
// with it, and the next build shall find all of them.
func replanned[T any](ctx context.Context, g *parser.Graph, c Config, do func(context.Context, *engine) (T, error)) (T, error) {
	for {
		v, err := once(ctx, g, c, do)
		if errors.Is(err, store.ErrChanged) {
			return v, errors.Join(err, c.Layers.DistrustChanged(ctx))
		}
		var lost *lostError
		if !errors.As(err, &lost) {
			return v, err
		}
		if err := c.Cache.Remove(lost.key); err != nil {
			return v, fmt.Errorf("forgetting a step whose layers are lost: %w", err)
		}
	}
}

// once calls do with a plan. What goes on in the background then ends with it.
func once[T any](ctx context.Context, g *parser.Graph, c Config, do func(context.Context, *engine) (T, error)) (v T, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	e, err := newEngine(ctx, g, c, cancel)
	if err != nil {
		cancel(err)
		return v, err
	}
	defer func() {
		cancel(err)
		e.wait()
		e.plan.touch(c.Cache)
		e.Journal.planned(e)
	}()
	return do(ctx, e)
}
