package fileop

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/moby/patternmatcher"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
)

// filter are the include and exclude patterns of a copy.
type filter struct {
	include, exclude *patternmatcher.PatternMatcher
	// plain: the include patterns name paths, so it is plain what may
	// match below a directory.
	plain bool
}

func newFilter(include, exclude []string) (filter, error) {
	var f filter
	var err error
	if len(include) > 0 {
		if f.include, err = patternmatcher.New(include); err != nil {
			return f, hint.Add(fmt.Errorf("invalid includepatterns: %q: %w", include, err), local.PatternHint)
		}
		f.plain = true
		for _, p := range f.include.Patterns() {
			f.plain = f.plain && (p.Exclusion() || !strings.ContainsAny(p.String(), `*[]?^\`))
		}
	}
	if len(exclude) > 0 {
		if f.exclude, err = patternmatcher.New(exclude); err != nil {
			return f, hint.Add(fmt.Errorf("invalid excludepatterns: %q: %w", exclude, err), local.PatternHint)
		}
	}
	return f, nil
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

// verdict is what the patterns say of a path and, through info, of what is
// below it.
type verdict struct{ include, exclude patternmatcher.MatchInfo }

// walk calls visit for all that is selected below from, directories before
// what they hold.
func (f filter) walk(ctx context.Context, files source.FS, from layers.Entry, visit func(picked) error) error {
	w := walk{filter: f, fs: files, visit: visit}
	return w.enter(ctx, picked{entry: from}, true, false, verdict{})
}

type walk struct {
	filter
	fs    source.FS
	visit func(picked) error
	// waiting are directories on the way that no pattern selects; they
	// are visited when something below them is.
	waiting []picked
}

// enter visits p, if it is selected, and goes through what is below.
func (w *walk) enter(ctx context.Context, p picked, included, excluded bool, v verdict) error {
	if included {
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
	if p.entry.Kind != layers.Dir || excluded && !w.exclude.Exclusions() {
		return nil
	}
	if !included {
		if !excluded && !w.mayHold(p.below) {
			return nil
		}
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
		if err := w.judge(ctx, picked{below: path.Join(p.below, path.Base(e.Path)), entry: e}, v); err != nil {
			return err
		}
	}
	return nil
}

// judge asks the patterns about p, whose directory they said up of.
func (w *walk) judge(ctx context.Context, p picked, up verdict) error {
	included, excluded := true, false
	var v verdict
	var err error
	if w.include != nil {
		if included, v.include, err = w.include.MatchesUsingParentResults(p.below, up.include); err != nil {
			return fmt.Errorf("failed to match includepatterns: %w", err)
		}
	}
	if w.exclude != nil {
		if excluded, v.exclude, err = w.exclude.MatchesUsingParentResults(p.below, up.exclude); err != nil {
			return fmt.Errorf("failed to match excludepatterns: %w", err)
		}
	}
	return w.enter(ctx, p, included && !excluded, excluded, v)
}

// mayHold reports whether an include pattern may match something below dir.
func (w *walk) mayHold(dir string) bool {
	if !w.plain {
		return true
	}
	for _, p := range w.include.Patterns() {
		if !p.Exclusion() && strings.HasPrefix(p.String(), dir+"/") {
			return true
		}
	}
	return false
}
