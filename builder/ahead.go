package builder

import (
	"context"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/parser"
)

// picks is what a step reads of an input whose content, not key, counts.
type picks struct {
	from parser.Input
	sel  fileop.Selection
}

// contentInputs are the inputs of n that count by the content of what is taken
// from them.
func contentInputs(n *parser.Node) []picks {
	var all []picks
	switch op := n.Op.(type) {
	case parser.Exec:
		for _, m := range op.Mounts {
			if m.Dest != "/" && m.Input >= 0 && m.Type != parser.MountCache {
				all = append(all, picks{n.Inputs[m.Input], fileop.Subtree(m.Selector)})
			}
		}
	case parser.FileOp:
		for _, a := range op.Actions {
			if c, ok := a.Action.(parser.Copy); ok && a.Secondary >= 0 && a.Secondary < len(n.Inputs) {
				all = append(all, picks{n.Inputs[a.Secondary], fileop.Selected(c)})
			}
		}
	}
	return all
}

// ahead does, side by side, what the recipe of n would do one after the other:
// naming its inputs, and running the sources whose content nobody remembers. It
// runs nothing that the recipe would not.
func (e *engine) ahead(ctx context.Context, n *parser.Node) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, in := range keyInputs(n) {
		if in.Node == nil || isFiles(in.Node) {
			continue
		}
		group.Go(func() error {
			_, err := e.identify(ctx, in.Node)
			return err
		})
	}
	for _, p := range contentInputs(n) {
		if p.from.Node == nil || isFiles(p.from.Node) {
			continue
		}
		group.Go(func() error {
			from, err := e.identify(ctx, p.from.Node)
			if err != nil {
				return err
			}
			if !e.jobs[p.from.Node].forced {
				if _, ok := e.Cache.Content(from.key, p.about()); ok {
					return nil
				}
			}
			_, err = e.resolve(ctx, p.from.Node)
			return err
		})
	}
	return group.Wait()
}

// about names what is picked, for remembering its content.
func (p picks) about() string { return p.sel.String() + "\n" + strconv.Itoa(p.from.Output) }
