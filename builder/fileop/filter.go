package fileop

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
)

// newRules compiles the include and exclude patterns of a copy.
func newRules(include, exclude []string) (source.Rules, error) {
	r, err := source.NewRules(include, exclude)
	var bad *source.PatternError
	if errors.As(err, &bad) {
		kind, patterns := "include", include
		if bad.Ignore {
			kind, patterns = "exclude", exclude
		}
		err = hint.Add(fmt.Errorf("invalid %spatterns: %q: %w", kind, patterns, bad.Unwrap()), source.PatternHint)
	}
	return r, err
}

// picked is one file that a walk comes upon.
type picked struct {
	// below is the path relative to where the walk began: "" is the
	// beginning itself.
	below string
	entry layers.Entry
	// implied: no pattern selects the directory, but something in it.
	implied bool
}

// walk visits all that is selected below a file, directories before what they hold.
type walk struct {
	rules source.Rules
	fs    source.FS
	visit func(picked) error
	// waiting are directories on the way that no pattern selects; they
	// are visited when something below them is.
	waiting []picked
}

// enter visits p, of which the rules said m, if it is selected, and goes through what
// is below.
func (w *walk) enter(ctx context.Context, p picked, m source.Matched) error {
	if !m.Hidden {
		for i := range w.waiting {
			if err := w.visit(w.waiting[i]); err != nil {
				return err
			}
		}
		w.waiting = w.waiting[:0]
		if err := w.visit(p); err != nil {
			return err
		}
	}
	if p.entry.Kind != layers.Dir || m.Closed {
		return nil
	}
	if m.Hidden {
		depth := len(w.waiting)
		p.implied = true
		w.waiting = append(w.waiting, p)
		defer func() { w.waiting = w.waiting[:min(depth, len(w.waiting))] }()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	entries, err := w.fs.ReadDir(p.entry.Path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		below := path.Join(p.below, path.Base(e.Path))
		m, err := w.rules.Judge(below, e.Kind == layers.Dir, m)
		if err == nil {
			err = w.enter(ctx, picked{below: below, entry: e}, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
