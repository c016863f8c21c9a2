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

// written is step for an instruction as the Dockerfile has it.
func written(text string, parts ...Part) BuildStep {
	s := step("[1/2] "+text, parts...)
	s.Text = text
	return s
}

func TestExplain(t *testing.T) {
	long := strings.Repeat("x", 200)
	listings := map[string]Listing{
		"sha256:1": {"a": {Path: "a", Type: "file", Content: "1", Mode: 0o644, Owner: "0:0"}, "b": {Path: "b", Type: "file"}, "d": {Path: "d", Type: "directory"}},
		"sha256:2": {"a": {Path: "a", Type: "file", Content: "2", Mode: 0o755, Owner: "1:1"}, "c": {Path: "c", Type: "symlink"}, "d": {Path: "d", Type: "directory"}},
		"sha256:4": {"a": {Path: "a", Type: "file"}},
		"sha256:5": {"a": {Path: "a", Type: "file", Owner: "0:0"}},
		"sha256:6": {".": {Path: ".", Type: "directory", Mode: 0o700}},
		"sha256:7": {".": {Path: ".", Type: "directory", Mode: 0o755}},
		"sha256:8": {"a\x1b[31m\n": {}, "b\xff": {}, "c d": {}},
		"sha256:0": {},
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
		"nothing":                    {step("RUN x", does("x")), step("RUN x", does("x")), "its layer was pruned"},
		"instruction":                {step("[1/2] RUN y", does("y")), step("[1/1] RUN x", does("x")), "instruction changed, it was: RUN x"},
		"its script alone":           {step("RUN <<E", does("a\\ny\n")), step("RUN <<E", does("a\\nx\n")), "instruction changed: x → y"},
		"a script that is not shown": {step("RUN <<E", does("a\n"+Hidden+"1\n")), step("RUN <<E", does("a\n"+Hidden+"2\n")), "instruction changed (what changed is not shown)"},
		"an inline document":         {step("COPY <<E", does("mkfile\ndata \"a\\ny\\n\"\n")), step("COPY <<E", does("mkfile\ndata \"a\\nx\\n\"\n")), "instruction changed: x → y"},
		"where it is expanded":       {step("COPY x .", does("copy\ndestination \"/v\"\n")), step("COPY x .", does("copy\ndestination \"/w\"\n")), `instruction changed: destination "/w" → destination "/v"`},
		"variable":                   {step("RUN x", variable("1")), step("RUN x", variable("")), `variable A: "" → "1"`},
		"new variable":               {step("RUN x", variable("1")), step("RUN x"), `variable A: not set → "1"`},
		"variable that went":         {step("RUN x"), step("RUN x", variable("1")), `variable A: "1" → not set`},
		"long variable":              {step("RUN x", variable(long)), step("RUN x", variable("")), `variable A: "" → "` + long[:100] + `"…`},
		"hidden variable":            {step("RUN x", variable(Hidden+"1")), step("RUN x", variable(Hidden+"2")), "variable A changed (its value is not shown)"},
		"order of variables":         {step("RUN x", variable("1"), Part{Name: "variable B", Kind: Variable}), step("RUN x", Part{Name: "variable B", Kind: Variable}, variable("1")), `order of variables: "B A" → "A B"`},
		"setting":                    {step("RUN x", Part{Name: "user", Value: "1"}), step("RUN x", Part{Name: "user", Value: ""}), `user: "" → "1"`},
		"fields":                     {step("RUN x", Part{Name: "bind mount /a", Value: "read only\n"}), step("RUN x", Part{Name: "bind mount /a"}), "bind mount /a changed: now also read only"},
		"fields that went":           {step("RUN x", Part{Name: "bind mount /a"}), step("RUN x", Part{Name: "bind mount /a", Value: "read only\n"}), "bind mount /a changed: no longer read only"},
		"fields that differ":         {step("RUN x", Part{Name: "ulimit n", Value: "soft 2\nhard 2\n"}), step("RUN x", Part{Name: "ulimit n", Value: "soft 1\nhard 2\n"}), "ulimit n changed: soft 1 → soft 2"},
		"a new setting":              {step("RUN x", Part{Name: "extra host", Value: "a"}), step("RUN x"), `extra host "a" added`},
		"a setting that went":        {step("RUN x"), step("RUN x", Part{Name: "tmpfs mount /a", Value: "size 1\n"}), "tmpfs mount /a removed"},
		"a value with several lines": {step("RUN x", variable("a\nb")), step("RUN x", variable("\x1b[31m")), `variable A: "\x1b[31m" → "a\nb"`},
		"part of a value hidden":     {step("RUN x", variable("/xxxxx "+Hidden+"1")), step("RUN x", variable("/xxxxx "+Hidden+"2")), "variable A changed (its value is not shown)"},
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
		"another base":               {step("RUN x", base("2", "d:13")), step("RUN x", base("1", "d:12")), "base image is now d:13, was d:12"},
		"another base with a digest": {step("RUN x", base("2", "d:13@sha256:"+strings.Repeat("a", 64))), step("RUN x", base("1", "")), "base image is now d:13@sha256:aaaaaaaaaaaa…, was scratch"},
		"no step below any more":     {step("RUN x", base("2", "d:12")), step("RUN x", after("1", "[1/2] RUN y")), "it now follows the base image, it followed RUN y"},
		"a step below the first":     {step("RUN x", after("2", "[1/2] RUN y")), step("RUN x", base("1", "d:12")), "it now follows RUN y, it followed the base image"},
		"an instruction with --link": {written("COPY --link x", does("x")), written("COPY x", does("x"), after("1", "[1/2] RUN y")), "instruction changed, it was: COPY x"},
		"a mount of files": {written("RUN --mount=target=/a x", Part{Name: "bind mount /a", Value: "read only\n"}, files("sha256:1", "")), written("RUN x"),
			"instruction changed, it was: RUN x; bind mount /a added"},
		"files of another stage": {written("COPY --from=b x", files("sha256:2", "[b 1/1] RUN y")), written("COPY --from=a x", files("sha256:1", "[a 1/1] RUN z")),
			"instruction changed, it was: COPY --from=a x"},
		"files of a stage with a new step": {step("COPY x", files("sha256:2", "[s 2/2] RUN z")), step("COPY x", files("sha256:1", "[s 1/1] RUN y")),
			"[s 2/2] gave other files: /a changed (content, mode, owner), /b gone, /c added, 3 of 3 files"},
		"an owner that counts no more": {written("COPY --chown=1 x", does("y"), files("sha256:4", "")), written("COPY x", does("x"), files("sha256:5", "")),
			"instruction changed, it was: COPY x"},
		"files that are selected otherwise": {written("COPY --from=s x /", does("copy\nsource \"/x\"\n"), files("sha256:2", "[s 1/1] RUN y")), written("COPY --from=s y /", does("copy\nsource \"/y\"\n"), files("sha256:1", "[s 1/1] RUN y")),
			"instruction changed, it was: COPY --from=s y /"},
		"a RUN in place of a COPY on the same base": {
			written("RUN x", Part{Name: "operation", Value: "run"}, Part{Name: "root", Kind: Base, Value: "1", From: "image@1"}),
			written("COPY x", Part{Name: "operation", Value: "file"}, Part{Name: "input 0", Kind: Base, Value: "1", From: "image@1"}),
			"instruction changed, it was: COPY x",
		},
		"a RUN in place of a COPY on another base": {
			written("RUN x", Part{Name: "operation", Value: "run"}, Part{Name: "root", Kind: Base, Value: "2", From: "image@2"}),
			written("COPY x", Part{Name: "operation", Value: "file"}, Part{Name: "input 0", Kind: Base, Value: "1", From: "image@1"}),
			"instruction changed, it was: COPY x; base image image is now 2, was 1",
		},
		"--link on a base": {
			written("COPY --link x", does("x")), written("COPY x", does("x"), Part{Name: "input 0", Kind: Base, Value: "1", From: "image@1"}),
			"instruction changed, it was: COPY x",
		},
		"another input of a COPY": {
			step("[2/2] COPY x", Part{Name: "action 1", Kind: Does, Value: "copy\non 0\nfrom 1\n"}, after("1", "[1/2] RUN y")),
			step("[1/1] COPY x", Part{Name: "action 1", Kind: Does, Value: "copy\non -1\nfrom 0\n"}),
			"it now follows RUN y, it followed nothing",
		},
		"a COPY in place of a RUN": {written("COPY x", Part{Name: "operation", Value: "file"}, does("x")), written("RUN x", Part{Name: "operation", Value: "run"}, does("y"), variable("1"), Part{Name: "user"}),
			"instruction changed, it was: RUN x"},
		"the root of a stage": {step("COPY x", files("sha256:6", "[s 1/1] RUN y")), step("COPY x", files("sha256:7", "[s 1/1] RUN y")),
			"[s 1/1] gave other files: / changed (mode), 1 of 1 file"},
		"names that cannot be shown": {step("COPY x", files("sha256:8", "")), step("COPY x", files("sha256:0", "")),
			`"a\x1b[31m\n" added, "b\xff" added, c d added, 3 of 3 files`},
		"control characters of a record": {step("RUN x", after("2", "[a\x1b[31m 1/2] RUN y")), step("RUN x", after("1", "[1/3] RUN y")), "[a\ufffd[31m 1/2] changed before it"},
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
