package parser

import (
	"context"
	"io/fs"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// untilEnd returns what do does with r, or why ctx has ended. The frontend looks at no
// context while it works, so then it is left behind in its goroutine; but it asks r
// nothing any more, so the caller may release what answers need.
func untilEnd[T any](ctx context.Context, r Resolver, do func(Resolver) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	g, done := &gate{to: r}, make(chan result, 1)
	go func() {
		value, err := do(g)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		g.shut()
		var none T
		return none, context.Cause(ctx)
	}
}

// gate is a Resolver that is asked nothing once it is shut.
type gate struct {
	to Resolver
	// mu is held for reading by who waits for an answer.
	mu     sync.RWMutex
	closed bool
}

// shut waits for the answers that are on their way.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

func through[T any](ctx context.Context, g *gate, ask func() (T, error)) (T, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		var none T
		return none, context.Cause(ctx)
	}
	return ask()
}

// The methods of Resolver.

func (g *gate) ResolveImage(ctx context.Context, ref string, p *ocispec.Platform, pull bool) (ImageMeta, error) {
	return through(ctx, g, func() (ImageMeta, error) { return g.to.ResolveImage(ctx, ref, p, pull) })
}

func (g *gate) ResolveLayout(ctx context.Context, storeID, ref string, p *ocispec.Platform) (ImageMeta, error) {
	return through(ctx, g, func() (ImageMeta, error) { return g.to.ResolveLayout(ctx, storeID, ref, p) })
}

func (g *gate) ReadLocal(ctx context.Context, name, path string) ([]byte, error) {
	return through(ctx, g, func() ([]byte, error) { return g.to.ReadLocal(ctx, name, path) })
}

func (g *gate) IgnoreFile(name, path string) string { return g.to.IgnoreFile(name, path) }

func (g *gate) StatLocal(ctx context.Context, name, path string) (fs.FileInfo, error) {
	return through(ctx, g, func() (fs.FileInfo, error) { return g.to.StatLocal(ctx, name, path) })
}

func (g *gate) ReadDirLocal(ctx context.Context, name, path, pattern string) ([]fs.FileInfo, error) {
	return through(ctx, g, func() ([]fs.FileInfo, error) { return g.to.ReadDirLocal(ctx, name, path, pattern) })
}

func (g *gate) OpenNode(ctx context.Context, graph *Graph, in Input) (fs.FS, error) {
	return through(ctx, g, func() (fs.FS, error) { return g.to.OpenNode(ctx, graph, in) })
}

func (g *gate) ResolveGit(ctx context.Context, name string, op Git) (GitMeta, error) {
	return through(ctx, g, func() (GitMeta, error) { return g.to.ResolveGit(ctx, name, op) })
}

func (g *gate) ResolveHTTP(ctx context.Context, name string, op HTTP) (HTTPMeta, error) {
	return through(ctx, g, func() (HTTPMeta, error) { return g.to.ResolveHTTP(ctx, name, op) })
}
