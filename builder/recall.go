package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// recorded is what the record of a step said when a build first asked for it. What
// is remembered of the contents of the step's layers decides keys of other steps,
// so from then on these layers are the step's result in this build.
type recorded struct {
	record future[*cache.Record]

	mu sync.Mutex
	// recalled: keys were made of what is remembered of the layers.
	recalled bool
	// lost: the layers cannot be used, and the step runs.
	lost bool
}

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
func replanned[T any](ctx context.Context, c Config, do func() (T, error)) (T, error) {
	for {
		v, err := do()
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

// record returns what is written down of a step's result; nil for nothing, or when
// the step has to run whatever there is.
func (e *engine) record(ctx context.Context, n *parser.Node) *cache.Record {
	j := e.jobs[n]
	r, err := j.recorded.record.get(func() (*cache.Record, error) {
		id, err := e.identify(ctx, n)
		if err != nil || j.forced {
			return nil, err
		}
		r, err := e.readRecord(id.key)
		e.warnOfRecord(err)
		return r, err
	})
	if err != nil {
		return nil
	}
	return r
}

func (e *engine) warnOfRecord(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.warn(fmt.Sprintf("a cache record cannot be used, the step will run: %v", err))
	}
}

// fromRecord returns the recorded result of a step, if it can be used.
func (e *engine) fromRecord(ctx context.Context, n *parser.Node) (value, bool, error) {
	r := e.record(ctx, n)
	if r == nil {
		return value{}, false, nil
	}
	if v, ok := e.believed(ctx, r); ok {
		return v, true, nil
	}
	p := &e.jobs[n].recorded
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.recalled {
		return value{}, false, &lostError{key: r.Key}
	}
	p.lost = true
	return value{}, false, nil
}

// recall returns the digest that is remembered of what is taken of an input, if no
// step has to run to know which layers that is.
func (e *engine) recall(ctx context.Context, r reading) (digest.Digest, bool) {
	names, ok := e.recordedLayers(ctx, r.from)
	if !ok {
		return "", false
	}
	d, ok := e.Cache.Content(names, r.taken.String())
	return d, ok && e.hold(r.from.Node)
}

// recordedLayers returns the names of an input's layers, unless a step has to run.
func (e *engine) recordedLayers(ctx context.Context, in parser.Input) ([]string, bool) {
	if in.Node == nil {
		return nil, true
	}
	switch op := in.Node.Op.(type) {
	case parser.Exec, parser.FileOp:
		r := e.record(ctx, in.Node)
		if r == nil || in.Output < 0 || in.Output >= len(r.Outputs) {
			return nil, false
		}
		return r.Outputs[in.Output].Layers, true
	case parser.Image, parser.OCILayout:
		c, err := e.chainOf(ctx, in)
		return layerNames(c), err == nil
	case parser.Merge:
		var all []string
		for _, of := range in.Node.Inputs {
			names, ok := e.recordedLayers(ctx, of)
			if !ok {
				return nil, false
			}
			all = append(all, names...)
		}
		return all, true
	case parser.Diff:
		return e.recordedDiff(ctx, in.Node, op)
	}
	return nil, false
}

func (e *engine) recordedDiff(ctx context.Context, n *parser.Node, op parser.Diff) ([]string, bool) {
	var lower, upper []string
	ok := true
	if op.HasLower {
		lower, ok = e.recordedLayers(ctx, n.Inputs[0])
	}
	if ok && op.HasUpper {
		upper, ok = e.recordedLayers(ctx, n.Inputs[len(n.Inputs)-1])
	}
	if !ok || len(lower) > len(upper) || !slices.Equal(lower, upper[:len(lower)]) {
		return nil, false
	}
	return upper[len(lower):], true
}

// hold makes the recorded layers of n its result in this build. It reports false
// when they are lost.
func (e *engine) hold(n *parser.Node) bool {
	if n == nil {
		return true
	}
	switch n.Op.(type) {
	case parser.Merge, parser.Diff:
		return !slices.ContainsFunc(n.Inputs, func(in parser.Input) bool { return !e.hold(in.Node) })
	}
	p := &e.jobs[n].recorded
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recalled = true
	return !p.lost
}

// layerNames are the layers of a chain as records name them.
func layerNames(c layers.Chain) []string {
	names := make([]string, len(c))
	for i, l := range c {
		names[i] = string(l.ID)
	}
	return names
}
