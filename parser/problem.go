package parser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	dockerfile "github.com/moby/buildkit/frontend/dockerfile/parser"
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
	// Msg is the frontend's own text; Hint says what to do.
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

// HintText returns what to do, or "".
func (e *Error) HintText() string { return e.Hint }

// FirstHint returns the hint if it takes precedence over those of the error's causes, or
// "". A name after --from is more likely a stage than an image.
func (e *Error) FirstHint() string {
	if !strings.Contains(e.Msg, noMetadata) || e.instruction() == "from" {
		return ""
	}
	return e.Hint
}

// problem makes an Error of the frontend's error. What is not about the
// Dockerfile (the build was interrupted) stays as it is. e may be nil.
func (f *frontend) problem(ctx context.Context, e *entry, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var own *Error
	if errors.As(err, &own) && (own.Source != nil || e == nil) {
		return err
	}
	p := &Error{Msg: Redact(err.Error()), Err: err}
	var at *dockerfile.LocationError
	if e != nil && errors.As(err, &at) {
		p.Source = e.file()
		for _, l := range at.Locations {
			p.addRanges(places(l))
		}
	}
	if strings.HasPrefix(p.Msg, "lint violation found") {
		for _, w := range f.warnings {
			p.Source = w.Source
			p.addRanges(w.Ranges)
		}
	}
	if e != nil {
		p.locate(e)
	}
	if p.Source != nil && isBinary(p.Source.Data) {
		return &Error{Msg: fmt.Sprintf("the Dockerfile %s is not text", p.Source.Name), Hint: notText, Err: err}
	}
	if p.Source == nil {
		p.Source, p.Ranges = f.wrongIgnoreRule(p.mistake())
	}
	if own != nil {
		p.Hint = own.Hint
	} else {
		p.Hint = Redact(hint(p, e))
	}
	return p
}

// notText is the hint for a Dockerfile that is a binary file, as an archive that is
// not a tar, or an empty one, is taken for.
const notText = "give a Dockerfile as plain text, or a tar archive with files in it, plain or compressed with gzip, bzip2, xz or zstd"

// isBinary reports whether data has a zero byte, as archives and compressed files
// have and no text has.
func isBinary(data []byte) bool { return bytes.IndexByte(data, 0) >= 0 }

// addRanges adds those that are not there yet: the frontend gives the same
// place at several levels.
func (e *Error) addRanges(rs []Range) {
	for _, r := range rs {
		if !slices.Contains(e.Ranges, r) {
			e.Ranges = append(e.Ranges, r)
		}
	}
}
