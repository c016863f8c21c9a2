package local

import (
	"path"
	"strings"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
)

// follow returns the paths that selecting the given ones (with wildcards in
// their last parts, as in BuildKit) comes to when symlinks are followed:
// the links and what they lead to. No result means everything.
func (l *Directory) follow(paths []string) ([]string, error) {
	f := follower{local: l, found: map[string]bool{}}
	for _, p := range paths {
		if err := f.add(p); err != nil {
			return nil, err
		}
	}
	return outermost(f.found), nil
}

type follower struct {
	local *Directory
	found map[string]bool
}

func (f *follower) add(p string) error {
	rest := strings.TrimPrefix(path.Clean("/"+p), "/")
	if rest == "" {
		f.found["."] = true
		return nil
	}
	at := ""
	for {
		next, more, _ := strings.Cut(rest, "/")
		at, rest = path.Join(at, next), more
		targets, err := f.targets(at, true)
		if err != nil {
			return err
		}
		if (rest == "" || targets != nil) && f.found[at] {
			return nil
		}
		if targets != nil {
			f.found[at] = true
			for _, t := range targets {
				if err := f.add(path.Join(t, rest)); err != nil {
					return err
				}
			}
			return nil
		}
		if rest == "" {
			f.found[at] = true
			return nil
		}
	}
}

// targets returns what the symlinks at p, or those that match p, point to.
func (f *follower) targets(p string, wild bool) ([]string, error) {
	base := path.Base(p)
	if wild && source.HasWildcards(base) {
		names, err := f.local.list(layers.Parent(p))
		if err != nil {
			if missing(err) {
				return nil, nil
			}
			return nil, err
		}
		var all []string
		for _, n := range names {
			if ok, _ := path.Match(base, n.base); ok {
				t, err := f.targets(path.Join(layers.Parent(p), n.base), false)
				if err != nil {
					return nil, err
				}
				all = append(all, t...)
			}
		}
		return all, nil
	}
	e, ok, err := f.local.entry(p)
	if err != nil || !ok || e.Kind != layers.Symlink {
		return nil, err
	}
	if path.IsAbs(e.Target) {
		return []string{path.Clean(e.Target)}, nil
	}
	return []string{path.Join("/", layers.Parent(p), e.Target)}, nil
}

// outermost returns the paths, sorted, without those below others; nil when
// the root is among them.
func outermost(paths map[string]bool) []string {
	if paths["."] {
		return nil
	}
	kept := make([]string, 0, len(paths))
	for p := range paths {
		inside := false
		for up := layers.Parent(p); up != "" && !inside; up = layers.Parent(up) {
			inside = paths[up]
		}
		if !inside {
			kept = append(kept, p)
		}
	}
	return kept
}
