package fileop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/patternmatcher"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// Selection says which files of a file system a step reads, and what of them
// counts. It is a value: equal selections have equal strings.
type Selection struct {
	// Source is a path, or a pattern when Wildcard is set.
	Source string
	// Wildcard: Source may be a pattern (of path.Match).
	Wildcard bool
	// Follow: where a match is a symlink, what it leads to is meant.
	Follow bool
	// Include and Exclude limit what is taken from below a match.
	Include, Exclude []string `json:",omitempty"`
	// Required paths must be among what is selected.
	Required []string `json:",omitempty"`
	// Contents: of a directory that matches only the content is taken, not
	// what it is itself.
	Contents bool
	// Owners: who owns the files counts.
	Owners bool
}

// Subtree selects all that is below a path, as a mount shows it. Symlinks on
// the way there are followed.
func Subtree(selector string) Selection {
	return Selection{Source: path.Clean("/" + selector), Follow: true, Owners: true}
}

// Selected returns what a copy reads.
func Selected(c parser.Copy) Selection {
	return Selection{
		Source: cleanPath(c.Src), Wildcard: c.AllowWildcard, Follow: c.FollowSymlinks || c.Unpack,
		Include: c.Include, Exclude: c.Exclude, Required: c.RequiredPaths,
		Contents: c.DirContents && !c.AlwaysReplace,
		Owners:   c.Owner == nil,
	}
}

// String returns the selection in a form that is the same for the same
// selection.
func (s Selection) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		// Strings and booleans can always be written.
		panic(err)
	}
	return string(b)
}

// cleanPath makes a path absolute and clean, and keeps a slash or "/." at its
// end: they mean something.
func cleanPath(s string) string {
	clean := path.Join("/", s)
	switch {
	case strings.HasSuffix(s, "/.") && clean == "/":
		return "/."
	case strings.HasSuffix(s, "/."):
		return clean + "/."
	case strings.HasSuffix(s, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

// rel makes a cleaned path relative to the root, as file systems want it.
func rel(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// hasWildcards reports whether s has a character that is special in patterns.
func hasWildcards(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}

// matches returns the paths that a source names, in order. A path without
// wildcards matches itself, whether it exists or not.
func matches(from source.FS, src string, follow bool) ([]string, error) {
	parts := strings.Split(rel(src), "/")
	wild := slices.IndexFunc(parts, hasWildcards)
	if wild < 0 {
		p, err := unescape(from, rel(src), follow)
		return []string{p}, err
	}
	base, err := unescape(from, path.Join(parts[:wild]...), true)
	if err == nil {
		base, err = from.Resolve(base, follow)
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
		return nil, nil
	}
	err = m.walk(base, "")
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

func (g *glob) walk(base, below string) error {
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
		if err := g.walk(base, name); err != nil {
			return err
		}
	}
	return nil
}

// missing reports whether err says that a path does not exist.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// orMissing returns err, or else the error that says that p is not there.
func orMissing(p string, err error) error {
	if err != nil {
		return err
	}
	return &MissingError{Path: "/" + p}
}

// MissingError says that a source does not exist.
type MissingError struct{ Path string }

func (e *MissingError) Error() string { return fmt.Sprintf("%q: not found", e.Path) }

// HintText says why a file that is on disk may be missing all the same.
func (e *MissingError) HintText() string {
	return "check the path, and that .dockerignore does not leave it out"
}

// Unwrap makes it an fs.ErrNotExist.
func (e *MissingError) Unwrap() error { return fs.ErrNotExist }

// filter are the include and exclude patterns of a copy.
type filter struct {
	include, exclude *patternmatcher.PatternMatcher
	// plain: the include patterns name paths, so it is plain what may
	// match below a directory.
	plain bool
}

func newFilter(include, exclude []string) (filter, error) {
	var f filter
	var err error
	if len(include) > 0 {
		if f.include, err = patternmatcher.New(include); err != nil {
			return f, fmt.Errorf("invalid includepatterns: %q: %w", include, err)
		}
		f.plain = true
		for _, p := range f.include.Patterns() {
			f.plain = f.plain && (p.Exclusion() || !strings.ContainsAny(p.String(), `*[]?^\`))
		}
	}
	if len(exclude) > 0 {
		if f.exclude, err = patternmatcher.New(exclude); err != nil {
			return f, fmt.Errorf("invalid excludepatterns: %q: %w", exclude, err)
		}
	}
	return f, nil
}

// picked is one file that a walk comes upon.
type picked struct {
	// below is the path relative to where the walk began: "" is the
	// beginning itself.
	below string
	entry layers.Entry
	// implied: no pattern selects the directory, but something in it.
	implied bool
}

// verdict is what the patterns say of a path and, through info, of what is
// below it.
type verdict struct{ include, exclude patternmatcher.MatchInfo }

// walk calls visit for all that is selected below from, directories before
// what they hold.
func (f filter) walk(files source.FS, from layers.Entry, visit func(picked) error) error {
	w := walk{filter: f, fs: files, visit: visit}
	return w.enter(picked{entry: from}, true, false, verdict{})
}

type walk struct {
	filter
	fs    source.FS
	visit func(picked) error
	// waiting are directories on the way that no pattern selects; they
	// are visited when something below them is.
	waiting []picked
}

// enter visits p, if it is selected, and goes through what is below.
func (w *walk) enter(p picked, included, excluded bool, v verdict) error {
	if included {
		for i := range w.waiting {
			if err := w.visit(w.waiting[i]); err != nil {
				return err
			}
		}
		w.waiting = w.waiting[:0]
		if err := w.visit(p); err != nil {
			return err
		}
	}
	if p.entry.Kind != layers.Dir || excluded && !w.exclude.Exclusions() {
		return nil
	}
	if !included {
		if !excluded && !w.mayHold(p.below) {
			return nil
		}
		depth := len(w.waiting)
		p.implied = true
		w.waiting = append(w.waiting, p)
		defer func() { w.waiting = w.waiting[:min(depth, len(w.waiting))] }()
	}
	entries, err := w.fs.ReadDir(p.entry.Path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.judge(picked{below: path.Join(p.below, path.Base(e.Path)), entry: e}, v); err != nil {
			return err
		}
	}
	return nil
}

// judge asks the patterns about p, whose directory they said up of.
func (w *walk) judge(p picked, up verdict) error {
	included, excluded := true, false
	var v verdict
	var err error
	if w.include != nil {
		if included, v.include, err = w.include.MatchesUsingParentResults(p.below, up.include); err != nil {
			return fmt.Errorf("failed to match includepatterns: %w", err)
		}
	}
	if w.exclude != nil {
		if excluded, v.exclude, err = w.exclude.MatchesUsingParentResults(p.below, up.exclude); err != nil {
			return fmt.Errorf("failed to match excludepatterns: %w", err)
		}
	}
	return w.enter(p, included && !excluded, excluded, v)
}

// mayHold reports whether an include pattern may match something below dir.
func (w *walk) mayHold(dir string) bool {
	if !w.plain {
		return true
	}
	for _, p := range w.include.Patterns() {
		if !p.Exclusion() && strings.HasPrefix(p.String(), dir+"/") {
			return true
		}
	}
	return false
}
