package builder

import (
	"errors"
	"strings"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/parser"
)

// HintError is an error with the way out of it.
type HintError struct {
	Err  error
	Hint string
}

// Hinted adds a way out to an error.
func Hinted(err error, hint string) error { return &HintError{Err: err, Hint: hint} }

func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e *HintError) Unwrap() error { return e.Err }

// HintText returns the way out.
func (e *HintError) HintText() string { return e.Hint }

// climbed says what becomes of .. in a source that is missing: the frontend has
// taken it away, so only the step's name still tells of it.
func climbed(n *parser.Node, err error) error {
	var missing *fileop.MissingError
	if !errors.As(err, &missing) || missing.Near != "" || missing.Ignored || missing.Foreign || !strings.Contains(n.Name, " ../") {
		return err
	}
	return &fileop.MissingError{Path: missing.Path, Climbs: true}
}
