package fileop

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
)

// Picked is what a selection picks of a file system. It holds no list of files: Digest
// and a copy both walk them with each, so that they cannot disagree on which they are.
type Picked struct {
	files source.FS
	sel   Selection
	// matches are the paths that the source matched. Without wildcards that is the
	// source as written, whether it exists or not.
	matches []string
	rules   source.Rules
}

// Select resolves the wildcards and compiles the patterns of a selection.
func Select(ctx context.Context, files source.FS, sel Selection) (Picked, error) {
	p := Picked{files: files, sel: sel, matches: []string{sel.Source}}
	var err error
	if sel.Wildcard {
		if p.matches, err = matches(ctx, files, sel.Source, sel.Follow); err != nil {
			return Picked{}, err
		}
	}
	p.rules, err = newRules(sel.Include, sel.Exclude)
	return p, err
}

// each calls begin for each match with what it stands for, and then the function that
// begin returned for each file picked there, directories before what they hold. If
// begin returns nil, the match is skipped. A match that does not exist and a required
// path that is not picked are MissingErrors.
func (p Picked) each(ctx context.Context, begin func(match string, from layers.Entry) (func(picked) error, error)) error {
	unmet := slices.Clone(p.sel.Required)
	for _, match := range p.matches {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		from, err := lookupSource(p.files, match, p.sel.Follow)
		if err != nil {
			return err
		}
		visit, err := begin(match, from)
		if err != nil {
			return err
		}
		if visit == nil {
			continue
		}
		w := walk{rules: p.rules, fs: p.files, visit: func(f picked) error {
			if len(unmet) > 0 {
				unmet = slices.DeleteFunc(unmet, func(want string) bool { return f.meets(match, want) })
			}
			return visit(f)
		}}
		if err := w.enter(ctx, picked{entry: from}, source.Matched{}); err != nil {
			return err
		}
	}
	if len(unmet) > 0 {
		return p.sel.unmet(p.files, unmet[0])
	}
	return nil
}

// meets reports whether a required path is this file, below match, or leads to it. Where the walk
// began does not count: only what is below it is copied.
func (f picked) meets(match, want string) bool {
	return f.below != "" && strings.HasPrefix(path.Join("/", match, f.below), want)
}

// unmet is the error for a required path that is not selected.
func (s Selection) unmet(files source.FS, want string) error {
	missing := missingIn(files, want)
	switch {
	case want == path.Join("/", s.Source):
		missing.Hint = "--parents copies what is named below a directory, not the directory itself: end the source in /* (./* in place of .)"
	case len(s.Exclude) > 0 && exists(files, want):
		missing.Hint = "it is there, but --exclude leaves it out"
	}
	return missing
}

func exists(files source.FS, p string) bool {
	_, ok, err := files.Lookup(rel(p))
	return ok && err == nil
}

// lookupSource returns what a source path stands for.
func lookupSource(files source.FS, src string, follow bool) (layers.Entry, error) {
	at, err := files.Resolve(rel(src), follow)
	if err != nil {
		if missing(err) {
			return layers.Entry{}, missingIn(files, src)
		}
		return layers.Entry{}, err
	}
	e, ok, err := files.Lookup(at)
	if err != nil {
		return layers.Entry{}, orMissing(rel(src), err)
	}
	if !ok {
		return layers.Entry{}, missingIn(files, src)
	}
	return e, nil
}
