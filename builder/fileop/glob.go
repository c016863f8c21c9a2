package fileop

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
)

// matches returns the paths that a source names, in order. A path without
// wildcards matches itself, whether it exists or not.
func matches(ctx context.Context, from source.FS, src string, follow bool) ([]string, error) {
	parts := strings.Split(rel(src), "/")
	wild := slices.IndexFunc(parts, source.HasWildcards)
	if wild < 0 {
		p, err := unescape(from, rel(src), follow)
		return []string{p}, err
	}
	base, err := unescape(from, path.Join(parts[:wild]...), true)
	if err == nil {
		base, err = from.Resolve(base, follow)
	}
	if missing(err) {
		return nil, orMissing(path.Join(parts[:wild]...), nil)
	}
	if err != nil {
		return nil, err
	}
	e, ok, err := from.Lookup(base)
	if err != nil || !ok {
		return nil, orMissing(base, err)
	}
	if e.Kind != layers.Dir {
		return nil, nil
	}
	m := glob{fs: from, pattern: path.Join(parts[wild:]...), parts: parts[wild:]}
	// A character class may match a slash; then any depth may match.
	m.anyDepth = strings.Contains(m.pattern, "[")
	if _, err := filepath.Match(m.pattern, ""); err != nil {
		return nil, badPattern(m.pattern, err)
	}
	err = m.walk(ctx, base, "")
	return m.found, err
}

// unescape returns p without the backslashes that keep its characters from
// being wildcards, unless p is there as it is written.
func unescape(from source.FS, p string, follow bool) (string, error) {
	if !strings.Contains(p, `\`) {
		return p, nil
	}
	at, err := from.Resolve(p, follow)
	if err == nil {
		var ok bool
		if _, ok, err = from.Lookup(at); ok {
			return p, nil
		}
	}
	if err != nil && !missing(err) {
		return "", err
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '\\' && i+1 < len(p) {
			i++
		}
		b.WriteByte(p[i])
	}
	return b.String(), nil
}

// glob looks for the paths below a directory that match a pattern.
type glob struct {
	fs       source.FS
	pattern  string
	parts    []string
	anyDepth bool
	found    []string
}

func (g *glob) walk(ctx context.Context, base, below string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	entries, err := g.fs.ReadDir(path.Join(base, below))
	if err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	depth := 0
	if below != "" {
		depth = strings.Count(below, "/") + 1
	}
	for _, e := range entries {
		name := path.Join(below, path.Base(e.Path))
		if ok, err := filepath.Match(g.pattern, name); err == nil && ok {
			g.found = append(g.found, e.Path)
			continue
		}
		if e.Kind != layers.Dir {
			continue
		}
		if !g.anyDepth {
			if depth+1 >= len(g.parts) {
				continue
			}
			if ok, err := filepath.Match(g.parts[depth], path.Base(name)); err != nil || !ok {
				continue
			}
		}
		if err := g.walk(ctx, base, name); err != nil {
			return err
		}
	}
	return nil
}
