package cache

import (
	"slices"
	"strings"
	"testing"
)

// named makes steps of their names.
func named(names ...string) []BuildStep {
	var list []BuildStep
	for _, n := range names {
		list = append(list, BuildStep{Name: n})
	}
	return list
}

func TestMatching(t *testing.T) {
	for _, tt := range []struct {
		name        string
		now, before []BuildStep
		want        []int
	}{
		{"the same", named("[a 1/2] RUN x", "[a 2/2] RUN y"), named("[a 1/2] RUN x", "[a 2/2] RUN y"), []int{0, 1}},
		{"a step was added", named("[a 1/3] RUN x", "[a 2/3] RUN z", "[a 3/3] RUN y"), named("[a 1/2] RUN x", "[a 2/2] RUN y"), []int{0, -1, 1}},
		{"a step went", named("[a 1/1] RUN y"), named("[a 1/2] RUN x", "[a 2/2] RUN y"), []int{1}},
		{"an instruction was changed", named("[a 1/2] RUN x2", "[a 2/2] RUN y"), named("[a 1/2] RUN x", "[a 2/2] RUN y"), []int{0, 1}},
		{"the last was changed", named("[a 1/2] RUN x", "[a 2/2] RUN y2"), named("[a 1/2] RUN x", "[a 2/2] RUN y"), []int{0, 1}},
		{"two were exchanged", named("[a 1/2] RUN y", "[a 2/2] RUN x"), named("[a 1/2] RUN x", "[a 2/2] RUN y"), []int{1, 0}},
		{"a stage got another name", named("[b 1/1] RUN x"), named("[a 1/1] RUN x"), []int{0}},
		{"two stages with the same", named("[b 1/1] RUN x", "[a 1/1] RUN x"), named("[a 1/1] RUN x", "[b 1/1] RUN x"), []int{1, 0}},
		{"twice in a stage", named("[1/2] RUN x", "[2/2] RUN x"), named("[1/2] RUN x", "[2/2] RUN x"), []int{0, 1}},
		{"nothing before", named("RUN x"), nil, []int{-1}},
	} {
		if got := Matching(tt.now, tt.before); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMatchingGoesByWhatIsWritten(t *testing.T) {
	now := []BuildStep{{Name: "[1/2] RUN echo new", Text: "RUN echo $X"}, {Name: "[2/2] RUN y"}}
	before := []BuildStep{{Name: "[1/2] RUN y"}, {Name: "[2/2] RUN echo old", Text: "RUN echo $X"}}
	if got := Matching(now, before); !slices.Equal(got, []int{1, 0}) {
		t.Errorf("got %v", got)
	}
}

// step makes a step of another key for each list of parts.
func step(name string, parts ...Part) BuildStep {
	return BuildStep{Name: name, Key: Recipe(parts).Key(), Parts: parts, Verdict: Ran}
}

func TestExplain(t *testing.T) {
	long := strings.Repeat("x", 200)
	listings := map[string]Listing{
		"sha256:1": {"a": {Path: "a", Type: "file", Content: "1", Mode: 0o644}, "b": {Path: "b", Type: "file"}, "d": {Path: "d", Type: "directory"}},
		"sha256:2": {"a": {Path: "a", Type: "file", Content: "2", Mode: 0o755, Owner: "1:1"}, "c": {Path: "c", Type: "symlink"}, "d": {Path: "d", Type: "directory"}},
		"sha256:3": {"a": {Path: "a", Type: "symlink"}, "p": {}, "q": {}, "r": {}, "s": {}},
	}
	does := func(text string) Part { return Part{Name: "command", Kind: Does, Value: text} }
	variable := func(value string) Part { return Part{Name: "variable A", Kind: Variable, Value: value} }
	files := func(digest, from string) Part {
		return Part{Name: "action 1 files", Kind: Content, Value: digest + "\n", From: from}
	}
	after := func(key, from string) Part { return Part{Name: "root", Kind: After, Value: key, From: from} }
	base := func(key, from string) Part { return Part{Name: "root", Kind: Base, Value: key, From: from} }
	for name, tt := range map[string]struct {
		now, before BuildStep
		want        string
	}{
		"nothing":            {step("RUN x", does("x")), step("RUN x", does("x")), "its layer was pruned"},
		"instruction":        {step("[1/2] RUN y", does("y")), step("[1/1] RUN x", does("x")), "instruction changed, it was: RUN x"},
		"its script alone":   {step("RUN <<E", does("y")), step("RUN <<E", does("x")), "instruction changed"},
		"variable":           {step("RUN x", variable("1")), step("RUN x", variable("")), `variable A: "" → "1"`},
		"new variable":       {step("RUN x", variable("1")), step("RUN x"), `variable A: not set → "1"`},
		"variable that went": {step("RUN x"), step("RUN x", variable("1")), `variable A: "1" → not set`},
		"long variable":      {step("RUN x", variable(long)), step("RUN x", variable("")), `variable A: "" → "` + long[:100] + `"…`},
		"hidden variable":    {step("RUN x", variable(Hidden+"1")), step("RUN x", variable(Hidden+"2")), "variable A changed (its value is not shown)"},
		"setting":            {step("RUN x", Part{Name: "user", Value: "1"}), step("RUN x", Part{Name: "user", Value: ""}), `user: "" → "1"`},
		"fields":             {step("RUN x", Part{Name: "bind mount /a", Value: "read only\n"}), step("RUN x", Part{Name: "bind mount /a"}), "bind mount /a changed"},
		"files": {step("COPY x", files("sha256:2", "")), step("COPY x", files("sha256:1", "")),
			"a changed (content, mode, owner), b gone, c added, 3 of 3 files"},
		"many files": {step("COPY x", files("sha256:3", "")), step("COPY x", files("sha256:1", "")),
			"a changed (type), b gone, d gone, and 4 more, 7 of 7 files"},
		"files of a stage": {step("COPY x", files("sha256:2", "[s 3/4] RUN y")), step("COPY x", files("sha256:1", "[s 3/4] RUN y")),
			"[s 3/4] gave other files: /a changed (content, mode, owner), /b gone, /c added, 3 of 3 files"},
		"files that nobody listed": {step("COPY x", files("sha256:9", "")), step("COPY x", files("sha256:1", "")), "files changed"},
		"step below":               {step("RUN x", after("2", "[1/2] RUN y")), step("RUN x", after("1", "[1/3] RUN y")), "[1/2] changed before it"},
		"another step below":       {step("RUN x", after("2", "[1/2] RUN z")), step("RUN x", after("1", "[1/2] RUN y")), "it now follows RUN z, it followed RUN y"},
		"base": {step("RUN x", base("2", "d:12@sha256:"+strings.Repeat("a", 64))), step("RUN x", base("1", "d:12@sha256:"+strings.Repeat("b", 64))),
			"base image d:12 is now sha256:aaaaaaaaaaaa…, was sha256:bbbbbbbbbbbb…"},
		"another base": {step("RUN x", base("2", "d:13")), step("RUN x", base("1", "d:12")), "base image is now d:13, was d:12"},
		"two reasons": {step("RUN x", variable("1"), after("2", "[1/2] RUN y")), step("RUN x", variable("2"), after("1", "[1/2] RUN y")),
			`variable A: "2" → "1"; [1/2] changed before it`},
	} {
		got := Text(Explain(tt.now, tt.before, func(d string) Listing { return listings[d] }))
		if got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, tt.want)
		}
	}
	failed := step("RUN x", does("x"))
	failed.Verdict = RanAndFailed
	if got := Text(Explain(step("RUN x", does("x")), failed, nil)); got != "it did not succeed in the last build" {
		t.Errorf("after a failure: %s", got)
	}
}

func TestNearest(t *testing.T) {
	a, b := Part{Name: "a", Value: "1"}, Part{Name: "b", Value: "1"}
	builds := []Build{
		{Steps: []BuildStep{step("[1/2] RUN x", Part{Name: "a", Value: "2"}, Part{Name: "b", Value: "2"}), step("[2/2] RUN y", a, b)}},
		{Steps: []BuildStep{step("[z 1/1] RUN x", a, Part{Name: "b", Value: "2"})}},
		{Steps: []BuildStep{{Name: "[1/1] RUN x"}}},
	}
	if near, ok := Nearest(step("[s 1/9] RUN x", a, b), builds); !ok || near.Name != "[z 1/1] RUN x" {
		t.Errorf("got %s, %t", near.Name, ok)
	}
	if near, ok := Nearest(step("[s 1/9] RUN w", a, b), builds); ok {
		t.Errorf("got %s", near.Name)
	}
}
