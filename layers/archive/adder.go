package archive

import (
	"context"
	"fmt"
	"io"

	"github.com/sinter-build/sinter/layers"
)

// Adder takes the entries of a layer, as Writer and Packer do.
type Adder interface {
	Add(e layers.Entry, content io.Reader) error
}

// Add gives w an entry, with the content that open returns if it is a regular file,
// which must end with ctx.
func Add(ctx context.Context, w Adder, e layers.Entry, open func() (io.ReadCloser, error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := add(w, e, open)
	if err != nil {
		err = fmt.Errorf("writing /%s: %w", e.Path, err)
	}
	return err
}

func add(w Adder, e layers.Entry, open func() (io.ReadCloser, error)) error {
	if e.Kind != layers.File {
		return w.Add(e, nil)
	}
	r, err := open()
	if err != nil {
		return err
	}
	err = w.Add(e, r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}
