// Package fileop does what COPY, ADD, WORKDIR and their kin ask for: file
// actions become edits of a view of the root file system, and the edits are
// written straight as a layer. Nothing is mounted and no file is copied twice.
// The behaviour is that of BuildKit's file operations.
//
// The vocabulary: a Selection says which files a step reads and what of them counts.
// Its matches are the paths that its source names. Picked is what a selection picks of
// a file system. A tree is a root file system with edits, kept in nodes. An inode is
// what a path has become; several nodes share one if it has hard links.
//
// A step's key is made of Picked.Digest, and the step copies what Picked.each visits,
// as Digest does. Both must see the same files even if these change in between. The
// file system sees to that: layers do not change, and a local.Directory looks at each
// path once. Where a file is not as it was seen any more, reading it fails with a
// local.ChangedError, so no layer is recorded.
//
// What an action makes without a time of its own has layers.MadeTime, so that the
// same input gives the same bytes.
package fileop

import (
	"context"
	"fmt"
	"io"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/parser"
)

// Input is a file system that actions read or change.
type Input struct {
	FS source.FS
	// Chain are the layers that FS shows.
	Chain layers.Chain
	// Kept: the files are a root file system of layers and keep their
	// owners when they are copied. Otherwise they are the user's own, and
	// belong to 0:0.
	Kept bool
}

// Writer takes the entries of a new layer in the order of layers.ComparePaths.
type Writer = archive.Adder

// Output is a result: what it stands on, and whether a layer on top of that
// was written.
type Output struct {
	Chain   layers.Chain
	Written bool
	// Warnings are what the user should know of how it came about.
	Warnings []string
	// Marks are the paths of files that the layer does not hold, because names
	// that begin with ".wh." stand for deletions there.
	Marks []string
}

// Apply runs the actions of op. For every output that changes something,
// newWriter is asked once for a writer, and the layer goes there; the caller
// commits it. tmp is a folder for temporary files.
func Apply(ctx context.Context, op parser.FileOp, inputs []Input, tmp string, newWriter func(output int) (Writer, error)) ([]Output, error) {
	r := &run{op: op, inputs: inputs, tmp: tmp, results: make([]*tree, len(op.Actions)), left: make([]int, len(op.Actions))}
	defer r.close()
	if err := r.countUses(); err != nil {
		return nil, err
	}
	var outputs []Output
	for i, a := range op.Actions {
		t, err := r.base(ctx, a.Input)
		if err != nil {
			return nil, err
		}
		if err := r.act(ctx, t, a); err != nil {
			return nil, err
		}
		r.results[i] = t
		if a.Output < 0 {
			continue
		}
		for len(outputs) <= a.Output {
			outputs = append(outputs, Output{})
		}
		o := &outputs[a.Output]
		o.Chain, o.Warnings = t.chain, r.warnings
		if o.Written, o.Marks, err = t.write(ctx, func() (Writer, error) { return newWriter(a.Output) }); err != nil {
			return nil, err
		}
	}
	return outputs, nil
}

// run is one Apply.
type run struct {
	op      parser.FileOp
	inputs  []Input
	tmp     string
	results []*tree
	// left counts how often each result will still be needed.
	left     []int
	warnings []string
	// spools are temporary files, to be closed in the end.
	spools []io.Closer
}

func (r *run) close() {
	for _, s := range r.spools {
		_ = s.Close()
	}
}

// countUses checks the indexes of inputs and counts who needs what.
func (r *run) countUses() error {
	for i, a := range r.op.Actions {
		for _, in := range []int{a.Input, a.Secondary} {
			if in < -1 || in >= len(r.inputs)+i {
				return fmt.Errorf("file action %d has no input %d", i+1, in)
			}
			if in >= len(r.inputs) {
				r.left[in-len(r.inputs)]++
			}
		}
	}
	return nil
}

// base returns the tree that an action changes: a new one over an input, or
// the result of an earlier action.
func (r *run) base(ctx context.Context, input int) (*tree, error) {
	switch {
	case input < 0:
		return newTree(nil, nil), nil
	case input >= len(r.inputs):
		k := input - len(r.inputs)
		r.left[k]--
		t := r.results[k]
		if r.left[k] > 0 {
			t = t.clone()
		}
		return t, nil
	}
	in := r.inputs[input]
	if in.Kept {
		return newTree(in.FS, in.Chain), nil
	}
	// A directory of the user's has no layers: what stands on it begins
	// with a copy.
	t := newTree(nil, nil)
	all := parser.Copy{Src: "/", Dest: "/", DirContents: true}
	return t, r.copy(ctx, t, in, all)
}

// from returns the file system that an input index stands for.
func (r *run) from(input int) Input {
	switch {
	case input < 0:
		return Input{FS: newTree(nil, nil), Kept: true}
	case input >= len(r.inputs):
		return Input{FS: r.results[input-len(r.inputs)], Kept: true}
	}
	return r.inputs[input]
}

// act changes t as an action says.
func (r *run) act(ctx context.Context, t *tree, a parser.FileAction) error {
	switch action := a.Action.(type) {
	case parser.Copy:
		if a.Secondary >= len(r.inputs) {
			k := a.Secondary - len(r.inputs)
			r.left[k]--
			if r.results[k] == t {
				// It copies within itself: read from what was.
				r.results[k] = t.clone()
			}
		}
		return r.copy(ctx, t, r.from(a.Secondary), action)
	case parser.Mkdir:
		return r.mkdir(ctx, t, action)
	case parser.Mkfile:
		return r.mkfile(ctx, t, action)
	case parser.MkSymlink:
		return r.symlink(ctx, t, action)
	case parser.Remove:
		return remove(ctx, t, action)
	}
	return fmt.Errorf("%T is not a file action", a.Action)
}
