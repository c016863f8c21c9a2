package parser

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
)

// Warning is a finding about the Dockerfile that does not stop the build.
type Warning struct {
	// Short is one line; Detail explains further.
	Short  string
	Detail []string
	// URL leads to the rule's description.
	URL string
	// Source is the text that Ranges refer to; nil when the finding has no
	// place.
	Source *SourceFile
	Ranges []Range
	// Level is the vertex warning's level of BuildKit: 1 is shown.
	Level int
}

// Error is a mistake in the Dockerfile or in what was asked of it.
type Error struct {
	// Msg is the reference frontend's own text; Hint is the way out.
	Msg, Hint string
	// Source is the text that Ranges refer to; nil when the mistake has no
	// place.
	Source *SourceFile
	Ranges []Range
	Err    error
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the frontend's error.
func (e *Error) Unwrap() error { return e.Err }

// HintText returns the way out, or "".
func (e *Error) HintText() string { return e.Hint }

// problem makes an Error of the frontend's error. What is not about the
// Dockerfile (the build was interrupted) stays as it is.
func (f *frontend) problem(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	e := &Error{Msg: err.Error(), Err: err}
	for _, s := range errdefs.Sources(err) {
		if s.Info == nil {
			continue
		}
		if e.Source == nil {
			e.Source = &SourceFile{Name: s.Info.Filename, Data: s.Info.Data}
		}
		if e.Source.Name == s.Info.Filename {
			e.addRanges(ranges(s.Ranges, 0))
		}
	}
	if strings.HasPrefix(e.Msg, "lint violation found") {
		for _, w := range f.warnings {
			e.Source = w.Source
			e.addRanges(w.Ranges)
		}
	}
	var inner *Error
	if errors.As(err, &inner) {
		e.Hint = inner.Hint
	} else {
		e.Hint = f.hint(ctx, e)
	}
	return e
}

// addRanges adds those that are not there yet: the frontend gives the same
// place at several levels.
func (e *Error) addRanges(rs []Range) {
	for _, r := range rs {
		if !slices.Contains(e.Ranges, r) {
			e.Ranges = append(e.Ranges, r)
		}
	}
}
