package builder

import (
	"context"
	"fmt"
	"time"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// file does a file operation: what it selects goes straight from where it is
// into the forms in which the layer will be wanted.
func (e *engine) file(ctx context.Context, n *parser.Node, op parser.FileOp) (value, error) {
	inputs := make([]fileop.Input, len(n.Inputs))
	for i, in := range n.Inputs {
		var err error
		if inputs[i], err = e.fileInput(ctx, in, isBase(op, i)); err != nil {
			return value{}, err
		}
	}
	v, err := e.apply(ctx, n.Name, op, inputs, e.forms(n))
	if err != nil || e.Epoch == nil {
		return v, err
	}
	for _, c := range v.chains {
		e.packIfExported(n, c[len(c)-1])
	}
	return v, nil
}

// forms says how a layer that n makes will be wanted.
func (e *engine) forms(n *parser.Node) store.Forms {
	j := e.jobs[n]
	// With an epoch the blob will have other times: it is made of the tar.
	blob := j.exported && e.Epoch == nil
	return store.Forms{Blob: blob, Dir: j.ranOn, Tar: j.exported && !blob || !j.exported && !j.ranOn}
}

// isBase reports whether some action changes the input, rather than copying
// from it.
func isBase(op parser.FileOp, input int) bool {
	for _, a := range op.Actions {
		if a.Input == input {
			return true
		}
	}
	return false
}

// fileInput opens an input. As the base of an action it is wanted as layers.
func (e *engine) fileInput(ctx context.Context, in parser.Input, base bool) (fileop.Input, error) {
	if e.isFiles(in.Node) && !base {
		files, err := e.files(ctx, in)
		return fileop.Input{FS: files}, err
	}
	c, err := e.chainOf(ctx, in)
	if err != nil {
		return fileop.Input{}, err
	}
	files, err := source.OpenChain(ctx, e.Layers, c)
	return fileop.Input{FS: files, Chain: c, Kept: true}, err
}

// apply writes the outputs of op as layers. Warnings name the step.
func (e *engine) apply(ctx context.Context, step string, op parser.FileOp, inputs []fileop.Input, forms store.Forms) (value, error) {
	end, err := e.bounds.beginWork(ctx)
	if err != nil {
		return value{}, err
	}
	defer end()
	writers := map[int]*store.Writer{}
	defer func() {
		for _, w := range writers {
			w.Abort()
		}
	}()
	outputs, err := fileop.Apply(ctx, op, inputs, e.Layers.Temp(), func(output int) (fileop.Writer, error) {
		w, err := e.Layers.NewWriter(ctx, forms, e.Compression)
		if err == nil {
			writers[output] = w
		}
		return w, err
	})
	if err != nil {
		return value{}, err
	}
	v := value{chains: make([]layers.Chain, len(outputs))}
	for i, o := range outputs {
		for _, text := range o.Warnings {
			e.warn(text)
		}
		e.warnOfMarks(step, o.Marks)
		v.chains[i] = o.Chain
		if v.chains[i] == nil {
			v.chains[i] = layers.Chain{}
		}
		w := writers[i]
		if w == nil {
			if v.chains[i], err = e.unchanged(ctx, v.chains[i]); err != nil {
				return value{}, err
			}
			continue
		}
		delete(writers, i)
		l, err := w.Commit(time.Now().UTC())
		if err != nil {
			return value{}, fmt.Errorf("keeping the new layer: %w", err)
		}
		v.chains[i] = v.chains[i].Append(l)
	}
	return v, nil
}

// warnOfMarks warns of files that a step was to copy and no layer can hold.
func (e *engine) warnOfMarks(step string, marks []string) {
	if len(marks) == 0 {
		return
	}
	var paths []string
	for _, m := range marks {
		paths = append(paths, "/"+m)
	}
	e.warn(fmt.Sprintf("%s: not copied: %s; in a layer, a name that begins with .wh. stands for a deleted file: "+
		"rename these files, or leave them out with .dockerignore or --exclude", step, progress.Few(paths)))
}

// unchanged returns the chain of a step that changed nothing: with one more
// layer, which is empty, so that layers and steps can be told apart by their
// number. An image does not hold it; its history says so.
func (e *engine) unchanged(ctx context.Context, c layers.Chain) (layers.Chain, error) {
	l, err := e.Layers.Get(layers.EmptyID)
	if err == nil {
		return c.Append(l), nil
	}
	w, err := e.Layers.NewWriter(ctx, store.Forms{Blob: true, Dir: true}, e.Compression)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if l, err = w.Commit(time.Time{}); err != nil {
		return nil, fmt.Errorf("keeping an empty layer: %w", err)
	}
	return c.Append(l), nil
}
