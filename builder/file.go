package builder

import (
	"context"
	"fmt"
	"time"

	"github.com/sinter-build/sinter/builder/fileop"
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
		if inputs[i], err = e.fileInput(ctx, in); err != nil {
			return value{}, err
		}
	}
	return e.apply(ctx, op, inputs, e.forms(n))
}

// forms says how a layer that n makes will be wanted.
func (e *engine) forms(n *parser.Node) store.Forms {
	j := e.jobs[n]
	return store.Forms{Blob: j.exported, Dir: j.ranOn, Tar: !j.exported && !j.ranOn}
}

func (e *engine) fileInput(ctx context.Context, in parser.Input) (fileop.Input, error) {
	v, err := e.resolve(ctx, in.Node)
	if err != nil {
		return fileop.Input{}, err
	}
	files, err := e.files(ctx, in)
	if err != nil || v.files != nil {
		return fileop.Input{FS: files}, err
	}
	c, err := v.chain(in.Output)
	return fileop.Input{FS: files, Chain: c, Kept: true}, err
}

// apply writes the outputs of op as layers.
func (e *engine) apply(ctx context.Context, op parser.FileOp, inputs []fileop.Input, forms store.Forms) (value, error) {
	writers := map[int]*store.Writer{}
	defer func() {
		for _, w := range writers {
			w.Abort()
		}
	}()
	outputs, err := fileop.Apply(ctx, op, inputs, func(output int) (fileop.Writer, error) {
		w, err := e.Layers.NewWriter(ctx, forms, e.Compression, e.Epoch)
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
		v.chains[i] = o.Chain
		if v.chains[i] == nil {
			v.chains[i] = layers.Chain{}
		}
		w := writers[i]
		if w == nil {
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
