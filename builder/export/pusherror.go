package export

import (
	"context"
	"fmt"

	"github.com/sinter-build/sinter/builder/export/output"
	"github.com/sinter-build/sinter/builder/stored"
)

// PushError is a push that failed for good. The image is in the store.
type PushError struct {
	// Names are those under which the image was not pushed.
	Names []string
	// Source is what the image is found by in the store; "" is the name itself.
	// Platform is the only one that was to be pushed, if any.
	Source, Platform string
	// Insecure says that the registry was allowed to speak plain HTTP, or to have a
	// certificate that is not verified.
	Insecure bool
	Err      error
}

func (e *PushError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *PushError) Unwrap() error { return e.Err }

// pushFailed keeps an image that could not be pushed under names, and returns the
// error for that: building it may have taken long.
func (w *writing) pushFailed(ctx context.Context, o output.Spec, built *stored.Image, names []string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	e := &PushError{Names: names, Insecure: o.Insecure, Err: err}
	if !o.Keep {
		e.Source = built.Digest().String()
		if keepErr := w.Images.Put(ctx, "", built.Desc); keepErr != nil {
			return fmt.Errorf("%w (and the image could not be kept: %w)", err, keepErr)
		}
	}
	return e
}
