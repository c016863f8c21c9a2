package parser

import (
	"context"
	"errors"

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
func problem(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &Error{Msg: err.Error(), Err: err}
	var inner *Error
	if errors.As(err, &inner) {
		e.Hint = inner.Hint
	}
	for _, s := range errdefs.Sources(err) {
		if s.Info == nil {
			continue
		}
		if e.Source == nil {
			e.Source = &SourceFile{Name: s.Info.Filename, Data: s.Info.Data}
		}
		if e.Source.Name == s.Info.Filename {
			e.Ranges = append(e.Ranges, ranges(s.Ranges, 0)...)
		}
	}
	return e
}
