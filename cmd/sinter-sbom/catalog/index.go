package catalog

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/sinter-build/sinter/layers"
)

// maxFiles is how many files an image may have.
const maxFiles = 20_000_000

// index finds files of an image by patterns.
type index struct {
	im *Image
	// paths are the regular files and symlinks that the image shows, in the order of
	// layers.ComparePaths, and the layers that they are from.
	paths []indexed
	// named are the places in paths of those with a name, and inside those in
	// directories with a name.
	named, inside map[string][]int32
	// names are all names in order, and suffixed those that end with what path.Ext
	// returns.
	names    []string
	suffixed map[string][]string

	mu    sync.Mutex
	known map[string][]match // by pattern
}

type indexed struct {
	path  string
	layer int32
	link  bool
}

// match is a file that a pattern matches.
type match struct {
	place
	// brought is the layer that makes it match: the file's, or that of a symlink to it.
	brought int
}

func newIndex(im *Image) (*index, error) {
	x := &index{
		im: im, named: map[string][]int32{}, inside: map[string][]int32{},
		suffixed: map[string][]string{}, known: map[string][]match{},
	}
	err := im.view.Walk(func(e layers.Entry, layer int) error {
		if e.Kind != layers.File && e.Kind != layers.Symlink {
			return nil
		}
		if len(x.paths) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		dir, name := path.Split("/" + e.Path)
		dir = path.Base(dir)
		x.named[name] = append(x.named[name], int32(len(x.paths)))
		x.inside[dir] = append(x.inside[dir], int32(len(x.paths)))
		x.paths = append(x.paths, indexed{e.Path, int32(layer), e.Kind == layers.Symlink})
		return nil
	})
	x.names = slices.Sorted(maps.Keys(x.named))
	for _, name := range x.names {
		ext := path.Ext(name)
		x.suffixed[ext] = append(x.suffixed[ext], name)
	}
	return x, err
}

// glob returns the files that a pattern matches, each once: by its own path if that
// matches, or else by that of a symlink to it.
func (x *index) glob(pattern string) ([]match, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if found, ok := x.known[pattern]; ok {
		return found, nil
	}
	if !doublestar.ValidatePattern(pattern) {
		return nil, fmt.Errorf("the pattern %q: %w", pattern, doublestar.ErrBadPattern)
	}
	found := x.search(pattern)
	x.known[pattern] = found
	return found, nil
}

func (x *index) search(pattern string) []match {
	if !strings.HasPrefix(pattern, "/") && !strings.HasPrefix(pattern, "**/") {
		pattern = "/" + pattern
	}
	prefix, below := literal(pattern)
	resolved, err := x.im.view.Resolve(prefix, true)
	if err != nil {
		return nil
	}
	if real := "/" + resolved; prefix != "/" && real != prefix {
		pattern = path.Join(escape(real), below)
	}
	var files, links []match
	seen := map[string]bool{}
	x.candidates(resolved, pattern, func(c indexed) {
		if !doublestar.MatchUnvalidated(pattern, "/"+c.path) {
			return
		}
		p, ok := x.im.at("/" + c.path)
		if !ok {
			return
		}
		m := match{p, int(c.layer)}
		if c.link {
			links = append(links, m)
			return
		}
		seen[p.Path] = true
		files = append(files, m)
	})
	for _, m := range links {
		if !seen[m.Path] {
			seen[m.Path] = true
			files = append(files, m)
		}
	}
	return files
}

// candidates calls fn for the files below dir whose names can match a pattern, in the
// order of paths.
func (x *index) candidates(dir, pattern string, fn func(indexed)) {
	slash := strings.LastIndexByte(pattern, '/')
	last := pattern[slash+1:]
	matches := namePattern(last)
	among := func(list []indexed) {
		for _, c := range list {
			if matches(c.path[strings.LastIndexByte(c.path, '/')+1:]) {
				fn(c)
			}
		}
	}
	if dir != "" {
		from := sort.Search(len(x.paths), func(i int) bool { return layers.ComparePaths(x.paths[i].path, dir) >= 0 })
		below := x.paths[from:]
		among(below[:sort.Search(len(below), func(i int) bool { return !layers.Under(below[i].path, dir) })])
		return
	}
	parent := pattern[strings.LastIndexByte(pattern[:max(slash, 0)], '/')+1 : max(slash, 0)]
	if strings.HasPrefix(last, "*") && last != "**" && balanced(last) && parent != "" && !strings.ContainsAny(parent, meta+"]}") {
		for _, i := range x.inside[parent] {
			among(x.paths[i : i+1])
		}
		return
	}
	var found []int32
	for _, name := range x.likely(last) {
		if matches(name) {
			found = append(found, x.named[name]...)
		}
	}
	slices.Sort(found)
	for _, i := range found {
		fn(x.paths[i])
	}
}

// likely returns the names that can match the last part of a pattern: few, of the
// patterns that syft has.
func (x *index) likely(last string) []string {
	before, after, star := strings.Cut(last, "*")
	ext := path.Ext(after)
	switch {
	case !balanced(last):
		return x.names
	case star && before == "" && !hasMeta(after) && ext != "":
		return x.suffixed[ext]
	case star && hasMeta(before), !star && hasMeta(last):
		return x.names
	}
	from, _ := slices.BinarySearch(x.names, before)
	list := x.names[from:]
	return list[:sort.Search(len(list), func(i int) bool { return !strings.HasPrefix(list[i], before) })]
}

// balanced is false of a part of a pattern in which braces were cut.
func balanced(part string) bool { return strings.Count(part, "{") == strings.Count(part, "}") }

// namePattern returns what tells quickly of most names that they do not match the last
// part of a pattern.
func namePattern(last string) func(name string) bool {
	switch before, after, star := strings.Cut(last, "*"); {
	case !balanced(last), strings.Contains(last, "**"):
		return func(string) bool { return true }
	case star && !hasMeta(before) && !hasMeta(after):
		return func(name string) bool { return strings.HasPrefix(name, before) && strings.HasSuffix(name, after) }
	default:
		return func(name string) bool { return doublestar.MatchUnvalidated(last, name) }
	}
}

// literal splits a pattern into the directory that it names without wildcards, and the
// rest.
func literal(pattern string) (dir, rest string) {
	if !strings.HasPrefix(pattern, "/") {
		return "/", pattern
	}
	end := strings.IndexAny(pattern, meta)
	if end < 0 {
		end = len(pattern)
	}
	slash := strings.LastIndexByte(pattern[:end], '/')
	return pattern[:max(slash, 1)], pattern[slash+1:]
}

// meta are the characters that patterns give a meaning.
const meta = `*?[{\`

func hasMeta(s string) bool { return strings.ContainsAny(s, meta) }

// escape returns the pattern that matches s alone.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) { // bytes: a name need not be UTF-8
		if strings.IndexByte(meta+"]}", s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// places returns the files of matches; of one layer's only, unless that is negative.
func places(found []match, layer int) []place {
	var list []place
	for _, m := range found {
		if layer < 0 || m.brought == layer {
			list = append(list, m.place)
		}
	}
	return slices.Clip(list)
}
