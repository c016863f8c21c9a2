package source

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"

	"github.com/sinter-build/sinter/layers"
)

// patterns are rules in .dockerignore's syntax. They are not safe for use by
// several goroutines at once.
type patterns struct {
	*patternmatcher.PatternMatcher
	// prefixes are the rules that can bring something into sight, if each begins with
	// a path and goes on in a way that does not matter. Then it is plain which
	// directories cannot hold anything of interest. Otherwise it is nil.
	prefixes []string
	// named are the paths that the rules name, and above those that lead to them; nil
	// when some rule is more than a path. To try all rules on each file that is copied
	// by a step of its own would take quadratic time.
	named, above map[string]bool
}

// newPatterns compiles rules; it returns nil when there are none. exceptions
// says which of the rules bring something into sight: those with "!" (of
// exclude rules), or those without (of include rules). bare returns a rule without an
// end that does not matter.
func newPatterns(rules []string, exceptions bool, bare func(string) string) (*patterns, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	m, err := patternmatcher.New(rules)
	if err != nil {
		return nil, &PatternError{Pattern: firstBad(rules), Ignore: exceptions, err: err}
	}
	p := &patterns{PatternMatcher: m, prefixes: []string{}}
	for _, r := range m.Patterns() {
		if r.Exclusion() != exceptions {
			continue
		}
		prefix := bare(r.String())
		if strings.ContainsAny(prefix, `*[]?^\`) {
			p.prefixes = nil
			break
		}
		p.prefixes = append(p.prefixes, prefix+"/")
	}
	if !exceptions {
		p.named, p.above = namedPaths(m)
	}
	return p, nil
}

// namedPaths returns the paths that rules name, and those that lead to them; nil when
// some rule is more than a path.
func namedPaths(m *patternmatcher.PatternMatcher) (named, above map[string]bool) {
	named, above = map[string]bool{}, map[string]bool{}
	for _, r := range m.Patterns() {
		p := r.String()
		if r.Exclusion() || strings.ContainsAny(p, `*[]?^\`) {
			return nil, nil
		}
		named[p] = true
		for up := layers.Parent(p); up != "" && !above[up]; up = layers.Parent(up) {
			above[up] = true
		}
	}
	return named, above
}

// matches reports whether the rules match name, given what they said of its parent.
func (p *patterns) matches(name string, up patternmatcher.MatchInfo) (bool, patternmatcher.MatchInfo, error) {
	if p.named == nil {
		return p.MatchesUsingParentResults(name, up)
	}
	for at := name; at != ""; at = layers.Parent(at) {
		if p.named[at] {
			return true, up, nil
		}
	}
	return false, up, nil
}

// PatternHint says how to correct a pattern.
const PatternHint = "in a pattern [ needs its ], and a backslash something after it; \\[ stands for the character ["

// firstBad returns the first of the rules that cannot be compiled.
func firstBad(rules []string) string {
	for _, r := range rules {
		if _, err := patternmatcher.New([]string{r}); err != nil {
			return r
		}
	}
	return strings.Join(rules, " ")
}

// PatternError is a mistake in a pattern: in a rule of the context's ignore file, or
// in a source that a step takes from the context. All steps that use the context
// come upon it, whosever source it is.
type PatternError struct {
	Pattern string
	// Ignore: it is a rule of the ignore file.
	Ignore bool
	err    error
}

func (e *PatternError) Error() string {
	if e.Ignore {
		return fmt.Sprintf("the rule %q of .dockerignore: %v", e.Pattern, e.err)
	}
	return fmt.Sprintf("%v: %q", e.err, e.Pattern)
}

// Unwrap returns what is wrong.
func (e *PatternError) Unwrap() error { return e.err }

// HintText says what to do.
func (e *PatternError) HintText() string { return PatternHint }

// below reports whether a rule (with "!" if exceptions is set, else one
// without) may match something below dir.
func (p *patterns) below(dir string, exceptions bool) bool {
	if p.named != nil && !exceptions {
		return p.named[dir] || p.above[dir]
	}
	dir += "/"
	return p.prefixes == nil || slices.ContainsFunc(p.prefixes, func(r string) bool { return strings.HasPrefix(r, dir) })
}

// withoutGlob returns a rule without a last part that stands for everything. Where that
// is two, as in a/*/**, less is looked at than there is, as in BuildKit's transfer of
// contexts.
func withoutGlob(rule string) string {
	return strings.TrimSuffix(strings.TrimSuffix(rule, "/**"), "/*")
}

// Rules decide which paths below a directory can be seen: those that an include
// pattern, if there is any, and no exclude pattern matches. A path that they hide can
// still be seen when it is a directory with something visible in it. They are not safe
// for use by several goroutines at once.
type Rules struct{ include, exclude *patterns }

// NewRules compiles the patterns of a copy. Its error is a PatternError.
func NewRules(include, exclude []string) (Rules, error) {
	return newRules(include, exclude, func(rule string) string { return rule })
}

// NewIgnoreRules compiles the rules of ignore files, and of the paths of a context that
// steps take.
func NewIgnoreRules(include, exclude []string) (Rules, error) {
	return newRules(include, exclude, withoutGlob)
}

func newRules(include, exclude []string, bare func(string) string) (r Rules, err error) {
	if r.include, err = newPatterns(include, false, bare); err == nil {
		r.exclude, err = newPatterns(exclude, true, bare)
	}
	return r, err
}

// Matched is what Rules said of a directory; those below it are judged
// with the help of it. The zero Matched is that of the directory at the top.
type Matched struct {
	include, exclude patternmatcher.MatchInfo
	// Hidden: the path itself is not selected.
	Hidden bool
	// Closed: nothing below can be seen.
	Closed bool
}

// Judge applies the rules to a path whose parent they said up of.
func (r Rules) Judge(name string, isDir bool, up Matched) (Matched, error) {
	m := Matched{Closed: up.Closed, Hidden: up.Closed}
	if up.Closed {
		return m, nil
	}
	if r.include != nil {
		ok, info, err := r.include.matches(name, up.include)
		if err != nil {
			return m, fmt.Errorf("matching %s: %w", name, err)
		}
		m.include = info
		if !ok {
			m.Hidden = true
			if !isDir || !r.include.below(name, false) {
				m.Closed = true
				return m, nil
			}
		}
	}
	if r.exclude != nil {
		ok, info, err := r.exclude.matches(name, up.exclude)
		if err != nil {
			return m, fmt.Errorf("matching %s: %w", name, err)
		}
		m.exclude = info
		if ok {
			m.Hidden = true
			m.Closed = !isDir || !r.exclude.Exclusions() || !r.exclude.below(name, true)
		}
	}
	return m, nil
}

// HasWildcards reports whether a path component is a pattern: whether it has a
// character that is special in one, without a backslash before it.
func HasWildcards(s string) bool {
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
