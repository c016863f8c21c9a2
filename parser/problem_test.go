package parser_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

// TestMistakes: a mistake has its message, its lines and a hint.
func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		name, dockerfile string
		req              func(*parser.Request)
		msg, hint        string
		line             int
	}{
		{"typing error", "FROM debian:12\nRUNN x\n", nil, "unknown instruction: RUNN (did you mean RUN?)", "", 2},
		{"no instruction", "FROM debian:12\nXYZZY x\n", nil, "unknown instruction: XYZZY", "the instructions are ADD, ARG, CMD, COPY", 2},
		{"no such image", "FROM debian:12\nFROM quay.io/a/b:1\n", nil, "quay.io/a/b:1: not found", "", 2},
		{"no such stage", "FROM debian:12 AS one\nFROM debian:12 AS two\nCOPY --from=xyzzy a b\n", nil,
			"docker.io/library/xyzzy:latest: not found", "xyzzy is not a stage, so it is taken for an image; the stages are one, two", 3},
		{"misspelt stage", "FROM debian:12 AS build\nFROM debian:12\nCOPY --from=biuld a b\n", nil,
			"(did you mean build?)", "biuld is not a stage, so it is taken for an image; the only named stage is build", 3},
		{"no such target", "FROM debian:12 AS one\nFROM debian:12 AS two\n", func(r *parser.Request) { r.Target = "xyzzy" },
			`target stage "xyzzy" could not be found`, "the stages are one, two", 0},
		{"empty", "", nil, "the Dockerfile cannot be empty", "FROM scratch", 0},
		{"no FROM", "RUN x\n", nil, "no build stage in current context", "before the first FROM", 1},
		{"one argument", "FROM debian:12\n\nCOPY a\n", nil, "COPY requires at least two arguments",
			"the forms of COPY: https://docs.docker.com/reference/dockerfile/#copy", 3},
		{"flag", "FROM debian:12\nRUN --mont=type=x a\n", nil, "unknown flag: --mont (did you mean mount?)", "", 2},
		{"mount type", "FROM debian:12\nRUN --mount=type=x,target=/a a\n", nil, `unsupported mount type "x"`, "tmpfs", 2},
		{"heredoc", "FROM debian:12\nRUN <<EOF\nx\n", nil, "unterminated heredoc", "delimiter", 2},
		{"variable in from", "ARG A=a\nFROM debian:12\nCOPY --from=$A x y\n", nil, "variable expansion is not supported for --from", "the forms of COPY", 3},
		{"stage number", "FROM debian:12\nCOPY --from=0 x y\nCOPY --from=7 x y\n", nil, "invalid stage index 7", "stages are counted from 0", 3},
		{"circle", "FROM a AS b\nFROM b AS a\nCOPY --from=a x y\n", nil, "circular dependency", "a stage cannot use itself", 3},
		{"required variable", "FROM debian:12\nENV A=${X:?sayit}\n", nil, "X: sayit", "the forms of ENV", 2},
		{"frontend", "# syntax=example.com/other:1\nFROM debian:12\n", nil, "the frontend example.com/other:1 is not supported", "docker/dockerfile:1", 1},
		{"frontend argument", "FROM debian:12\n", func(r *parser.Request) { r.BuildArgs = map[string]string{"BUILDKIT_SYNTAX": "other"} },
			"the frontend other is not supported", "docker/dockerfile:1", 0},
		{"mistake behind syntax", "# syntax=docker/dockerfile:1.4\nFROM debian:12\nSHELL x\n", nil, "SHELL requires", "the forms of SHELL", 3},
		{"check", "# check=error=true\nFROM debian:12 as a\n", nil, "lint violation found for rules: FromAsCasing", "error=true", 2},
		{"check by request", "FROM debian:12 as a\n", func(r *parser.Request) { r.Check = "error=true" },
			"lint violation found for rules: FromAsCasing", "error=true", 1},
		{"mount from", "FROM debian:12\nRUN --mount=from=debian:12,target=/a b\nRUN --mount=target=/a,from=xyzzy b\n", nil,
			"docker.io/library/xyzzy:latest: not found", "", 3},
		{"empty tag", "ARG V\nFROM debian:$V\n", nil, `failed to parse stage name "debian:"`, "a variable in FROM may be empty", 2},
		{"no tag", "FROM debian:\n", nil, `failed to parse stage name "debian:"`, "the forms of FROM", 1},
		{"platform", "FROM --platform=amd debian:12\n", nil, "failed to parse platform amd", "OS/ARCHITECTURE", 1},
		{"blank after a flag", "FROM debian:12\nRUN --mount type=cache,target=/x true\n", nil, "missing a value on flag: --mount", "without a space: --mount=VALUE", 2},
		{"port", "FROM debian:12\nEXPOSE http\n", nil, "invalid containerPort: http", "a number up to 65535", 2},
		{"protocol", "FROM debian:12\nEXPOSE 80/tpc\n", nil, "invalid proto: tpc", "/tcp, /udp or /sctp", 2},
		{"HEALTHCHECK without CMD", "FROM debian:12\nHEALTHCHECK curl x\n", nil, "(try CMD)", "HEALTHCHECK CMD COMMAND", 2},
		{"interval", "FROM debian:12\nHEALTHCHECK --interval=5 CMD x\n", nil, "missing unit in duration", "30s", 2},
		{"no duration", "FROM debian:12\nHEALTHCHECK --interval=soon CMD x\n", nil, "invalid duration", "30s", 2},
		{"ENV without a value", "FROM debian:12\nENV A\n", nil, "ENV must have two arguments", "write ENV NAME=VALUE", 2},
		{"long line", "FROM debian:12\nENV A=b\nRUN true " + strings.Repeat("x", 70000) + "\n", nil, "max allowed size of 65535", "break the line", 3},
		{"Latin-1", "FROM debian:12\nENV A=b\nRUN echo caf\xe9\n", nil, "invalid UTF-8", "save the Dockerfile as UTF-8", 3},
		{"escape", "# syntax=docker/dockerfile:1\n# escape=x\nFROM debian:12\n", nil, "invalid escape token 'x'", "# escape=`", 2},
		{"network", "FROM debian:12\n", func(r *parser.Request) { r.Network = "moon" }, `invalid network mode "moon"`, "default, host and none", 0},
		{"context name", "FROM debian:12\n", func(r *parser.Request) { r.Contexts = map[string]string{"A b": "local:x"} },
			`invalid context name "A b"`, "a context's name", 0},
		{"context platform", "FROM debian:12\n", func(r *parser.Request) { r.Contexts = map[string]string{"a::b/c/d/e": "local:x"} },
			`invalid platform in context name "a::b/c/d/e"`, "linux/amd64", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := amd64()
			if test.req != nil {
				test.req(&req)
			}
			_, err := parser.Parse(t.Context(), req, withDockerfile(test.dockerfile), nil)
			var e *parser.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(e.Msg, test.msg) {
				t.Errorf("message %q, want %q in it", e.Msg, test.msg)
			}
			if !strings.Contains(e.Hint, test.hint) || (test.hint == "") != (e.Hint == "") {
				t.Errorf("hint %q, want %q in it", e.Hint, test.hint)
			}
			line := 0
			if len(e.Ranges) > 0 {
				line = e.Ranges[0].Start.Line
			}
			if line != test.line {
				t.Errorf("line %d, want %d", line, test.line)
			}
			if line > 0 && (e.Source == nil || string(e.Source.Data) != test.dockerfile || e.Source.Name != "Dockerfile") {
				t.Errorf("source %+v", e.Source)
			}
		})
	}
}

func TestNoDockerfile(t *testing.T) {
	m := withDockerfile("")
	delete(m.locals["dockerfile"], "Dockerfile")
	_, err := parser.Parse(t.Context(), amd64(), m, nil)
	var e *parser.Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(e.Hint, "-f") {
		t.Errorf("got %#v", err)
	}
	m.locals["dockerfile"]["dockerfile"] = &fstest.MapFile{Data: []byte("FROM debian:12\n")}
	if g := parse(t, amd64(), m); g.Files[0].Name != "Dockerfile" {
		t.Errorf("files %+v", g.Files)
	}
}

// refusing is a resolver whose registry says no.
type refusing struct {
	*memory
	err error
}

func (r refusing) ResolveImage(context.Context, string, *ocispec.Platform, bool) (parser.ImageMeta, error) {
	return parser.ImageMeta{}, r.err
}

// TestResolverError: the resolver's own error can be found in Parse's.
func TestResolverError(t *testing.T) {
	denied := errors.New("denied")
	_, err := parser.Parse(t.Context(), amd64(), refusing{withDockerfile("FROM debian:12\n"), denied}, nil)
	if !errors.Is(err, denied) {
		t.Errorf("got %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := parser.Parse(ctx, amd64(), refusing{withDockerfile("FROM debian:12\n"), ctx.Err()}, nil)
	var e *parser.Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %#v", err)
	}
}

func TestWarnings(t *testing.T) {
	const dockerfile = "FROM debian:12 as a\nENV x y\n"
	var found []parser.Warning
	req := amd64()
	req.Platforms = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	_, err := parser.Parse(t.Context(), req, withDockerfile(dockerfile), func(w parser.Warning) { found = append(found, w) })
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, w := range found {
		if w.Source == nil || string(w.Source.Data) != dockerfile || w.URL == "" || len(w.Detail) == 0 || w.Level != 1 || len(w.Ranges) != 1 {
			t.Fatalf("warning %+v", w)
		}
		lines = append(lines, w.Ranges[0].Start.Line)
	}
	if !slices.Equal(lines, []int{1, 2}) || !strings.HasPrefix(found[0].Short, "FromAsCasing: ") {
		t.Errorf("warnings %+v", found)
	}
	found = nil
	req.Check = "skip=all"
	if _, err := parser.Parse(t.Context(), req, withDockerfile(dockerfile), func(w parser.Warning) { found = append(found, w) }); err != nil || found != nil {
		t.Errorf("skip=all: %v %v", err, found)
	}
}

// TestBrackets: what looks like a JSON array and is not one is warned of.
func TestBrackets(t *testing.T) {
	for text, want := range map[string]bool{
		"CMD ['sh', '-c', 'x']":                       true,
		"CMD [ 'sh', '-c' ]":                          true,
		"ENTRYPOINT [\"sh\", \"-c\" \"x\"]":           true,
		"cmd [node, app.js]":                          true,
		"ENTRYPOINT \\\n ['x']":                       true,
		"VOLUME [/data]":                              true,
		"VOLUME [ '/data' ]":                          true,
		"CMD\t['sh', '-c', 'x']":                      true,
		"HEALTHCHECK --interval=5s CMD ['curl', 'x']": true,
		"ONBUILD ENTRYPOINT ['x']":                    true,
		"ONBUILD VOLUME [/data]":                      true,
		"HEALTHCHECK CMD [\"curl\"]":                  false,
		"HEALTHCHECK CMD [ -f /x ]":                   false,
		"HEALTHCHECK NONE":                            false,
		"ONBUILD CMD [\"x\"]":                         false,
		"CMD [\"sh\"]":                                false,
		"CMD []":                                      false,
		"VOLUME [\"/data\"]":                          false,
		"VOLUME /data":                                false,
		"CMD [ -f \"/x\" ] && y":                      false,
		"CMD [ \"$A\" = \"b\" ] && y":                 false,
		"CMD [[ -f /x ]]":                             false,
		"CMD x ['a']":                                 false,
		"RUN ['a']":                                   false,
	} {
		var found []string
		_, err := parser.Parse(t.Context(), amd64(), withDockerfile("FROM debian:12\n"+text+"\n"), func(w parser.Warning) {
			if strings.Contains(w.Short, "not a JSON array") {
				found = append(found, w.Short)
				if w.Source == nil || len(w.Ranges) == 0 || w.Ranges[0].Start.Line != 2 {
					t.Errorf("%s: %+v has no place", text, w)
				}
			}
		})
		if err != nil || (len(found) == 1) != want || len(found) > 1 {
			t.Errorf("%s: %q, %v", text, found, err)
		}
	}
}

func TestCall(t *testing.T) {
	m := withDockerfile("# syntax=docker/dockerfile:1\n# base stage\nFROM debian:12 as base\nARG A=1\nFROM base AS last\nRUN --mount=type=secret,id=s x\n")
	for method, want := range map[parser.Method]string{
		parser.Check: "FromAsCasing", parser.Outline: "secret", parser.Targets: "last (default)",
	} {
		a, err := parser.Call(t.Context(), amd64(), m, method)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.ToLower(string(a.Text)), strings.ToLower(want)) || len(a.JSON) == 0 {
			t.Errorf("%s: text %s\njson %s", method, a.Text, a.JSON)
		}
		if (len(a.Warnings) > 0) != (method == parser.Check) || a.Mistake != nil {
			t.Errorf("%s: warnings %+v, mistake %v", method, a.Warnings, a.Mistake)
		}
	}
	if _, err := parser.Call(t.Context(), amd64(), m, "dance"); err == nil {
		t.Error("an unknown method was answered")
	}
}

// TestCheckMistake: the checks tell of what would stop the build.
func TestCheckMistake(t *testing.T) {
	a, err := parser.Call(t.Context(), amd64(), withDockerfile("FROM debian:12\nCOPY a\n"), parser.Check)
	if err != nil {
		t.Fatal(err)
	}
	if a.Mistake == nil || a.Mistake.Ranges[0].Start.Line != 2 || !strings.Contains(a.Mistake.Hint, "#copy") {
		t.Errorf("got %+v", a.Mistake)
	}
}

// A rule of an ignore file that is none has its line there.
func TestWrongIgnoreRule(t *testing.T) {
	for _, test := range []struct {
		name, rules, msg, hint string
		line                   int
	}{
		{".dockerignore", "# [\n*.o\n\n[a\n", "syntax error in pattern", "a [ without a ]", 4},
		{".dockerignore", "*.o\n!\n", "illegal exclusion pattern", "after !", 2},
		{"Dockerfile.dockerignore", "a\\\n", "syntax error in pattern", "backslash", 1},
	} {
		m := withDockerfile("FROM debian:12\nCOPY . /\n")
		where := "context"
		if test.name != ".dockerignore" {
			where = "dockerfile"
		}
		m.locals[where][test.name] = &fstest.MapFile{Data: []byte(test.rules)}
		_, err := parser.Parse(t.Context(), amd64(), m, nil)
		var e *parser.Error
		if !errors.As(err, &e) || !strings.Contains(e.Msg, test.msg) || !strings.Contains(e.Hint, test.hint) {
			t.Fatalf("%q: got %#v", test.rules, err)
		}
		if e.Source == nil || e.Source.Name != test.name || len(e.Ranges) != 1 || e.Ranges[0].Start.Line != test.line {
			t.Errorf("%q: got %+v, %+v", test.rules, e.Source, e.Ranges)
		}
	}
}

// TestFirstHint: a name after --from is more likely a stage, so what the registry says of
// the image does not help.
func TestFirstHint(t *testing.T) {
	for text, want := range map[string]bool{
		"FROM debian:12 AS build\nFROM debian:12\nCOPY --from=biuld a b\n":         true,
		"FROM debian:12 AS build\nFROM debian:12\nRUN --mount=from=biuld x\n":      true,
		"FROM debian:12 AS build\nFROM biuld\n":                                    false,
		"FROM debian:12 AS build\nFROM debian:12\nCOPY --from=example.com/x a b\n": false,
	} {
		_, err := parser.Parse(t.Context(), amd64(), withDockerfile(text), nil)
		var e *parser.Error
		if !errors.As(err, &e) || (e.FirstHint() != "") != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
