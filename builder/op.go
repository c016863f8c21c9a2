package builder

import (
	"context"
	"fmt"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// op is what the builder knows of a node: what it reads, what it does, and how to do
// it. Each operation has a type and a file of its own.
type op interface {
	kind() kind
	// inputs are those that decide what the node yields, in the order of its recipe.
	// Of the user's own files the content counts, whatever the operation says.
	inputs() []input
	// describe adds to a recipe what the operation does, but not what it reads.
	describe(r *cache.Recipe)
	run(ctx context.Context, e *engine) (value, error)
}

// kind says what a node yields and how its result is found again.
type kind int

const (
	// stepKind yields layers that are found by a record under the step's key.
	stepKind kind = iota
	// chainKind puts layers of its inputs together in a moment. It has a key, but
	// no record.
	chainKind
	// imageKind yields the layers of a base image, which are its key.
	imageKind
	// filesKind yields files of the user's, whose content counts.
	filesKind
)

// input is one input of a node, and how it decides what the node yields: by the key
// of what yields the input, or by the content of what is selected of it.
type input struct {
	// part is what the recipe calls it.
	part string
	from parser.Input
	// sel is what counts of the content; nil when the key counts.
	sel *fileop.Selection
	// root says that its layers become part of the node's own.
	root bool
}

// newOp is the one dispatch over operations.
func newOp(n *parser.Node, c *Config) (op, error) {
	switch o := n.Op.(type) {
	case parser.Exec:
		return execOp{n, o, c.users()}, nil
	case parser.FileOp:
		return fileOp{n, o}, nil
	case parser.Merge:
		return mergeOp{n}, nil
	case parser.Diff:
		return diffOp{n, o}, nil
	case parser.Image, parser.OCILayout:
		return imageOp{node: n}, nil
	case parser.Scan:
		return newScanOp(n, o, c.Scanner)
	case parser.Local:
		return localOp{node: n, op: o}, nil
	case parser.Git:
		return gitOp{node: n, op: o}, nil
	case parser.HTTP:
		return httpOp{node: n, op: o}, nil
	}
	return nil, fmt.Errorf("unknown operation %T", n.Op)
}

// reads nothing: what base images and sources of files have in common.
type readsNothing struct{}

func (readsNothing) inputs() []input        { return nil }
func (readsNothing) describe(*cache.Recipe) {}
