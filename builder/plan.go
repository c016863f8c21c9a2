package builder

import (
	"context"
	"errors"

	"github.com/sinter-build/sinter/parser"
)

// errPlanOnly stops a plan at the first step that would have to run.
var errPlanOnly = errors.New("the step is not cached")

// Planned reports whether everything g needs is there already, so that Build
// would run no step and read no file that may belong to others. It runs nothing,
// and what it learns stays: files that were hashed are not hashed again. Whatever
// hinders it is for Build to report; it is no plan then.
func Planned(ctx context.Context, g *parser.Graph, c Config) bool {
	c.Events = nil
	e := newEngine(g, c)
	e.planOnly = true
	res, err := e.build(ctx)
	if err != nil {
		return false
	}
	if !c.Blobs {
		return true
	}
	for _, t := range res.Targets {
		for _, l := range t.Chain {
			if ok, err := e.Layers.Convertible(ctx, l, e.packs.wanted); !ok || err != nil {
				return false
			}
		}
	}
	return true
}

// Runs reports whether g has any command in it: without one, a build needs no
// privileges at all.
func Runs(g *parser.Graph) bool {
	for _, n := range g.Nodes {
		if _, ok := n.Op.(parser.Exec); ok {
			return true
		}
	}
	return false
}
