package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// kind is what a look-up asks.
type kind string

const (
	exists kind = "exists" // Resolver.HasPath
	leads  kind = "leads"  // Resolver.FilesByPath
	globs  kind = "globs"  // Resolver.FilesByGlob
)

// lookup is a question about an image that the result of a cataloger depends on, and
// its answer.
type lookup struct {
	Kind   kind   `json:"k"`
	Query  string `json:"q"`
	Answer string `json:"a,omitempty"`
}

// trace collects look-ups. A nil trace does not.
type trace struct {
	mu      sync.Mutex
	lookups map[lookup]bool
}

func (t *trace) add(l lookup) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lookups == nil {
		t.lookups = map[lookup]bool{}
	}
	t.lookups[l] = true
}

// list returns the look-ups in order.
func (t *trace) list() []lookup {
	return slices.SortedFunc(maps.Keys(t.lookups), func(a, b lookup) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Query, b.Query))
	})
}

// answers reports whether an image gives the same answers.
func (im *Image) answers(lookups []lookup) bool {
	for _, l := range lookups {
		var answer string
		switch l.Kind {
		case exists:
			answer = fmt.Sprint(im.has(l.Query))
		case leads:
			if p, ok := im.at(l.Query); ok {
				answer = im.identify(p)
			}
		case globs:
			matches, err := im.files.glob(l.Query)
			if err != nil {
				return false
			}
			answer = im.identify(places(matches, -1)...)
		default:
			return false
		}
		if answer != l.Answer {
			return false
		}
	}
	return true
}
