package archive

import (
	"context"
	"io"
)

// ContextReader returns r for as long as ctx lives: afterwards reading fails with
// the reason why it ended.
func ContextReader(ctx context.Context, r io.Reader) io.Reader { return &contextReader{ctx, r} }

// ContextReadCloser is ContextReader for what has to be closed. Who opens a file for
// others within a context returns this: then every loop over one file ends with the
// context, however large the file is.
func ContextReadCloser(ctx context.Context, r io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{ContextReader(ctx, r), r}
}

type contextReader struct {
	ctx context.Context //nolint:containedctx // it lives within the call that it is made for
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
