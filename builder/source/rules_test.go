package source

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/sinter-build/sinter/layers"
)

// FuzzIgnore: not looking below hidden directories hides nothing that the rules,
// asked about every directory on the way, show. This holds for rules of what is left
// out and for those of what is taken.
func FuzzIgnore(f *testing.F) {
	f.Add("a\n!a/b\n", "a/b/c")
	f.Add("**/*.go\n!**/x?.go\n", "a/x1.go")
	f.Add("*\n!a/*/c\na/b/c/d\n", "a/b/c/d")
	f.Add("[a-c]*/**\n!/a\\*b/\n", "a*b")
	f.Add("# comment\n!\n", "!")
	f.Add(strings.Repeat("*a", 20)+"b\n", strings.Repeat("a", 60))
	f.Add("a/b\nc\n", "a/b/c")
	f.Add("a/b\nc/d\n", "c")
	f.Add("./a/b/\n/c\n../d\n.\n", "a/b")
	f.Fuzz(func(t *testing.T, text, name string) {
		if !layers.IsClean(name) || name == "" || len(text) > 4096 || len(name) > 4096 {
			return
		}
		lines, err := ignorefile.ReadAll(strings.NewReader(text))
		if err != nil {
			return
		}
		p, err := newPatterns(lines, true, withoutGlob)
		if err != nil || p == nil {
			return
		}
		plain, err := patternmatcher.New(lines)
		if err != nil {
			t.Fatal(err)
		}
		taken, err := newPatterns(lines, false, withoutGlob)
		if err != nil {
			t.Fatal(err)
		}
		var m, of Matched
		var hidden bool
		var parent patternmatcher.MatchInfo
		for end := 0; end < len(name); end++ {
			next := strings.IndexByte(name[end:], '/')
			if end += next; next < 0 {
				end = len(name)
			}
			if hidden, parent, err = plain.MatchesUsingParentResults(name[:end], parent); err != nil {
				return
			}
			if m, err = (Rules{exclude: p}).Judge(name[:end], end < len(name), m); err != nil {
				return
			}
			if of, err = (Rules{include: taken}).Judge(name[:end], end < len(name), of); err != nil {
				return
			}
		}
		if of.Hidden == hidden {
			t.Errorf("%q is taken: %v, as the rules %q have it: %v", name, !of.Hidden, lines, hidden)
		}
		if m.Hidden != hidden {
			t.Errorf("%q is hidden: %v, as the rules %q have it: %v", name, m.Hidden, lines, hidden)
		}
	})
}

// TestManyPatterns: a file is not compared with every path that steps take.
func TestManyPatterns(t *testing.T) {
	var taken []string
	for i := range 1000 {
		taken = append(taken, fmt.Sprintf("dir/sub/%d", i))
	}
	p, err := newPatterns(taken, false, withoutGlob)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(1, func() {
		for name, hidden := range map[string]bool{"dir/sub/7": false, "dir/sub/7/x": false, "dir/sub/x": true, "dir/sub": true} {
			m, err := Rules{include: p}.Judge(name, true, Matched{})
			if err != nil || m.Hidden != hidden || m.Closed != (name == "dir/sub/x") {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
		}
	})
	if n > 20 {
		t.Errorf("to judge four paths takes %.0f allocations", n)
	}
}
