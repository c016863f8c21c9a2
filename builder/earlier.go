package builder

import (
	"context"
	"fmt"
	"time"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// earlierCopies says what is known of earlier copies of a directory of the user's: the
// last one that was made as a whole, and the last one of all. It decides no result,
// only how a copy is stored.
type earlierCopies struct {
	id identity
	// record names the layers of the former, and the key of the latter in a part
	// of its own; nil when there is none.
	record *cache.Record
}

// lastCopy is the part of a record that holds the key of the last copy.
const lastCopy = "last copy"

// last returns the key of the last copy; of none it is one that no record has.
func (c *earlierCopies) last() (key cache.Key) {
	if c.record == nil {
		return key
	}
	for _, p := range c.record.Parts {
		if p.Name == lastCopy && key.UnmarshalText([]byte(p.Value)) != nil {
			key = cache.Key{}
		}
	}
	return key
}

// earlierCopies looks up earlier copies of what selector names in an input. It returns
// nil for an input that is not a local directory.
func (e *engine) earlierCopies(in parser.Input, selector string) *earlierCopies {
	op, ok := in.Node.Op.(parser.Local)
	local := e.Locals[op.Name]
	if !ok || local == nil {
		return nil
	}
	var r cache.Recipe
	r.Add("operation", "earlier copies for a mount")
	r.AddList("directory", local.Dir(), selector)
	var f cache.Fields
	f.Text("name", op.Name)
	f.Texts("include", op.Include)
	f.Texts("follow", op.FollowPaths)
	f.Texts("exclude", op.Exclude)
	r.Add("files", f.String())
	found := &earlierCopies{id: identity{key: r.Key(), recipe: r}}
	var err error
	if found.record, err = e.Cache.Get(found.id.key); err != nil {
		e.warnOfRecord(err)
	}
	return found
}

// copyOver copies files, as what has changed since the last copy that was made as a
// whole if there is one: an overlay then shows one over the other, and what has not
// changed is neither read nor stored again. There are never more than two layers;
// what changes adds up until a whole copy costs less.
func (e *engine) copyOver(ctx context.Context, last *earlierCopies, op parser.FileOp, from fileop.Input, forms store.Forms) (v value, whole bool, err error) {
	if last != nil && last.record != nil {
		if base, ok := e.believed(last.record); ok && len(base.chains) == 1 {
			if v, ok, err := e.differences(ctx, base.chains[0], op, from, forms); ok || err != nil {
				return v, false, err
			}
		}
	}
	v, err = e.apply(ctx, copyName, op, []fileop.Input{from}, forms)
	return v, true, err
}

// differences makes a layer of what has changed; it reports false where that is not
// worth its while.
func (e *engine) differences(ctx context.Context, base layers.Chain, op parser.FileOp, from fileop.Input, forms store.Forms) (value, bool, error) {
	end, err := e.bounds.beginWork(ctx)
	if err != nil {
		return value{}, false, err
	}
	defer end()
	view, err := e.Layers.View(ctx, base)
	if err != nil {
		return value{}, false, err
	}
	var w *store.Writer
	o, ok, err := fileop.Differences(ctx, from, op.Actions[0].Action.(parser.Copy), view, func() (fileop.Writer, error) {
		w, err = e.Layers.NewWriter(ctx, forms, e.Compression)
		return w, err
	})
	if err == nil && ok {
		e.warnOfMarks(copyName, o.Marks)
	}
	if w == nil || err != nil {
		if w != nil {
			w.Abort()
		}
		return value{chains: []layers.Chain{base}}, ok, err
	}
	l, err := w.Commit(time.Now().UTC())
	if err != nil {
		return value{}, false, fmt.Errorf("keeping the new layer: %w", err)
	}
	return value{chains: []layers.Chain{base.Append(l)}}, true, nil
}

// replaceCopy notes that a copy was made. The one before is forgotten, so that what
// it alone consists of is the first to be collected.
func (e *engine) replaceCopy(before *earlierCopies, made identity, v value, whole bool) error {
	if before == nil {
		return nil
	}
	if last := before.last(); last != made.key {
		if err := e.Cache.Remove(last); err != nil {
			return err
		}
	}
	if !whole {
		c, err := v.chain(0)
		if err != nil {
			return err
		}
		v = value{chains: []layers.Chain{c[:1]}}
	}
	r := newRecord(before.id, copyName, v)
	r.Parts.Add(lastCopy, made.key.String())
	r.Kind, r.Created = cache.EarlierCopy, time.Now().UTC()
	return e.Cache.Put(r)
}
