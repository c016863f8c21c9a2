package builder

import (
	"context"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/parser"
)

// Open does what g needs for one of its inputs, and returns the files that this
// yields. They can be read as long as ctx lives.
func Open(ctx context.Context, g *parser.Graph, in parser.Input, c Config) (source.FS, error) {
	c.Blobs = false
	return replanned(ctx, g, c, func(_ context.Context, e *engine) (source.FS, error) {
		e.declare()
		return e.files(ctx, in)
	})
}
