package parser_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

// TestBillionLaughs: variables that come to more than the limits are refused, before
// the frontend expands them.
func TestBillionLaughs(t *testing.T) {
	const limit, word = "the limit is 1 MiB", "the limit is 16 MiB"
	twice := func(line string) string { return strings.Repeat(line+"\n", 40) }
	big := "ENV A=" + strings.Repeat("x", 60000) + "\nENV A=$A$A$A$A$A$A$A$A$A$A\n"
	large := debian()
	large.Config.Env = append(large.Config.Env, "BIG="+strings.Repeat("x", 100_000))
	for _, test := range []struct {
		name, dockerfile, msg string
		line                  int
	}{
		{"ENV", "FROM scratch\nENV A=aaaa\n" + twice("ENV A=$A$A"), "the value of A has 2097152 bytes; " + limit, 21},
		{"ARG", "FROM scratch\nARG A=aaaa\n" + twice("ARG A=${A}${A}"), "the value of A has 2097152 bytes; " + limit, 21},
		{"global ARG", "ARG A=aaaa\n" + twice("ARG A=$A$A") + "FROM scratch\n", "the value of A has 2097152 bytes; " + limit, 20},
		{"overridden ARG", "ARG G=aaaa\n" + twice("ARG G=$G$G") + "FROM scratch\n", "the value of G has 2097152 bytes; " + limit, 20},
		{"argument of the platform", "FROM scratch\nARG TARGETOS\nENV A=$TARGETOS\n" + twice("ENV A=$A$A"), "the value of A has 1310720 bytes; " + limit, 21},
		{"replacement", "FROM scratch\nENV A=aaaa\n" + twice("ENV A=${A//a/aa}"), "the value of A has 2097152 bytes; " + limit, 21},
		{"default", "FROM scratch\nENV A=aaaa\n" + twice("ENV A=${N:-$A$A}"), "the value of A has 2097152 bytes; " + limit, 21},
		{"stages", "FROM scratch AS s0\nENV A=aaaa\n" + func() string {
			var b strings.Builder
			for i := range 40 {
				fmt.Fprintf(&b, "FROM s%d AS s%d\nENV A=$A$A\n", i, i+1)
			}
			return b.String()
		}(), "the value of A has 2097152 bytes; " + limit, 40},
		{"variable of the base", "FROM debian:12\n" + twice("ENV PATH=$PATH$PATH"), "the value of PATH has 1703936 bytes; " + limit, 18},
		{"triggers of the base", "FROM onbuild\n", "the value of A has 2097152 bytes; " + limit, 1},
		{"triggers of a stage", "FROM scratch AS a\nENV A=aaaa\n" + twice("ONBUILD ENV A=$A$A") + "FROM a\n", "the value of A has 2097152 bytes; " + limit, 43},
		{"LABEL", "FROM scratch\n" + big + "LABEL a=" + strings.Repeat("$A", 30) + "\n", "a word of LABEL expands to 18000000 bytes; " + word, 4},
		{"large base", "FROM large\nLABEL a=" + strings.Repeat("$BIG", 180) + "\n", "a word of LABEL expands to 18000000 bytes; " + word, 2},
		{"COPY", "FROM scratch\n" + big + "COPY a /" + strings.Repeat("$A", 30) + "\n", "a word of COPY expands to 18000001 bytes; " + word, 4},
		{"heredoc", "FROM scratch\n" + big + "COPY <<EOF /f\n" + strings.Repeat("$A\n", 30) + "EOF\n", "a word of COPY expands to 18000030 bytes; " + word, 4},
		{"WORKDIR", "FROM scratch\n" + big + "WORKDIR /" + strings.Repeat("$A", 10000) + "\n", "expanding a word with $A takes too many bytes; the limit is 32 MiB", 4},
		{"RUN", "FROM debian:12\n" + big + "RUN : " + strings.Repeat("$A", 10000) + "\n", "expanding a word with $A takes too many bytes; the limit is 32 MiB", 4},
		{"long replacement", "FROM scratch\n" + big + "LABEL a=${A//x/" + strings.Repeat("y", 30000) + "}\n", "expanding a word with $A takes too many bytes; the limit is 32 MiB", 4},
		{"quoted brace", "FROM scratch\n" + big + "LABEL a=${A//x/\"}" + strings.Repeat("y", 30000) + "\"}\n", "expanding a word with $A takes too many bytes; the limit is 32 MiB", 4},
		{"many", "FROM scratch\n" + func() string {
			var b strings.Builder
			for i := range 10_001 {
				fmt.Fprintf(&b, "ENV A%d=x\n", i)
			}
			return b.String()
		}(), "A9999 is one variable more than the limit of 10000", 10001},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &onbuild{memory: withDockerfile(test.dockerfile), triggers: []string{"ENV A=aaaa"}}
			for range 40 {
				r.triggers = append(r.triggers, "ENV A=$A$A")
			}
			r.images["docker.io/library/large:latest"] = large
			req := amd64()
			req.BuildArgs = map[string]string{"G": "small"}
			_, err := parser.Parse(t.Context(), req, r, nil)
			var e *parser.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if e.Msg != test.msg || e.Hint == "" || len(e.Ranges) == 0 || e.Ranges[0].Start.Line != test.line {
				t.Errorf("got %q at %v, hint %q", e.Msg, e.Ranges, e.Hint)
			}
		})
	}
}

// TestLongPlatformArgument: a platform argument that is given counts like any other,
// whether or not the Dockerfile names it.
func TestLongPlatformArgument(t *testing.T) {
	for _, name := range []string{"TARGETARCH", "TARGETPLATFORM", "BUILDOS", "TARGETSTAGE"} {
		for _, text := range []string{"FROM scratch\nCOPY a a\n", "ARG A=$" + name + "\nFROM scratch\nARG " + name + "\n"} {
			req := amd64()
			req.BuildArgs = map[string]string{name: strings.Repeat("x", 1<<20+1)}
			_, err := parser.Parse(t.Context(), req, withDockerfile(text), nil)
			var e *parser.Error
			if !errors.As(err, &e) || e.Msg != "the value of "+name+" has 1048577 bytes; the limit is 1 MiB" || !strings.HasPrefix(e.Hint, "it was given as a build argument") {
				t.Errorf("%s with %q: got %v", name, text, err)
			}
		}
	}
}

// onbuild is a resolver with one image more, which has triggers.
type onbuild struct {
	*memory
	triggers []string
}

func (o *onbuild) ResolveImage(ctx context.Context, ref string, p *ocispec.Platform, pull bool) (parser.ImageMeta, error) {
	if ref != "docker.io/library/onbuild:latest" {
		return o.memory.ResolveImage(ctx, ref, p, pull)
	}
	config, err := json.Marshal(map[string]any{"os": p.OS, "architecture": p.Architecture, "config": map[string]any{"OnBuild": o.triggers}})
	return parser.ImageMeta{Ref: ref, Digest: digest.FromString(ref), Config: config}, err
}

// TestUnneededStages: only the variables of stages that the target needs are held
// against the limits, as BuildKit expands no others. A stage may be needed by what
// ONBUILD of another one says.
func TestUnneededStages(t *testing.T) {
	large := " AS large\nENV A=" + strings.Repeat("a", 60_000) + "\nENV A=" + strings.Repeat("$A", 18) + "\n"
	for name, test := range map[string]struct {
		dockerfile, target string
		refused            bool
	}{
		"unneeded":              {"FROM scratch" + large + "FROM scratch\n", "", false},
		"on an image":           {"FROM debian:12" + large + "FROM debian:12\n", "", false},
		"after the target":      {"FROM scratch AS small\nFROM scratch" + large, "Small", false},
		"target":                {"FROM scratch" + large + "FROM scratch\n", "LARGE", true},
		"base of a base":        {"FROM scratch" + large + "FROM large AS b\nFROM b\n", "", true},
		"base on an image":      {"FROM debian:12" + large + "FROM large AS b\nFROM b\n", "", true},
		"COPY":                  {"FROM scratch" + large + "FROM scratch\nCOPY --from=Large a a\n", "", true},
		"COPY by number":        {"FROM scratch" + large + "FROM scratch\nCOPY --from=0 a a\n", "", true},
		"COPY of an unneeded":   {"FROM scratch" + large + "FROM scratch\nCOPY --from=0 a a\nFROM scratch\n", "", false},
		"mount":                 {"FROM scratch" + large + "FROM debian:12\nRUN --mount=type=bind,from=Large x\n", "", true},
		"trigger":               {"FROM scratch" + large + "FROM scratch AS b\nONBUILD COPY --from=large a a\nFROM b\n", "", true},
		"trigger on an image":   {"FROM debian:12" + large + "FROM scratch AS b\nONBUILD COPY --from=large a a\nFROM b\n", "", true},
		"trigger of the image":  {"FROM scratch" + large + "FROM onbuild\n", "", true},
		"trigger not set off":   {"FROM scratch" + large + "FROM scratch\nONBUILD COPY --from=large a a\n", "", false},
		"trigger of a non-base": {"FROM onbuild AS other\nFROM scratch" + large + "FROM scratch\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &onbuild{memory: withDockerfile(test.dockerfile), triggers: []string{"COPY --from=large a a"}}
			req := amd64()
			req.Target = test.target
			_, err := parser.Parse(t.Context(), req, r, nil)
			var e *parser.Error
			if refused := errors.As(err, &e) && strings.HasSuffix(e.Msg, "the limit is 1 MiB"); refused != test.refused || err != nil && !refused {
				t.Errorf("got %v", err)
			}
			a, err := parser.Call(t.Context(), req, r, parser.Check)
			if refused := err != nil || a.Mistake != nil; refused != (test.refused || test.target == "") {
				t.Errorf("check: got %v, %v", a.Mistake, err)
			}
		})
	}
}

// TestLongVariables: what real Dockerfiles come to is not refused.
func TestLongVariables(t *testing.T) {
	value := strings.Repeat("x", 45_000)
	for name, text := range map[string]string{
		"PATH":             "FROM debian:12\n" + strings.Repeat("ENV PATH=/opt/tool/bin:$PATH\nRUN x\n", 100),
		"conditional":      "FROM debian:12\n" + strings.Repeat("ENV X=/a${X:+:$X}\n", 12),
		"quotes removed":   "FROM debian:12\nARG V='\"a\"'\n" + strings.Repeat("RUN echo ${V//\\\"/} ${V//\\\"/} ${V//a/b}\nRUN <<EOF\necho ${V//\\\"/}\nEOF\n", 50),
		"escaped":          "FROM debian:12\nENV A=aaaa\n" + strings.Repeat("ENV A=\\$A\\$A\n", 40),
		"single quotes":    "FROM debian:12\nENV A=aaaa\n" + strings.Repeat("ENV A='$A$A'\n", 40),
		"nested":           "FROM debian:12\nENV C=c\n" + strings.Repeat("ENV A=${A:-${B:+$C}}$C\n", 40),
		"900 KiB":          "FROM scratch\nENV A=" + value + "\nENV A=" + strings.Repeat("$A", 20) + "\n" + strings.Repeat("LABEL a=$A\n", 5),
		"argument":         "ARG A=x\nFROM debian:12\nARG A\n" + strings.Repeat("ENV B=$A\n", 40),
		"stages":           "ARG X=debian:12\nFROM ${X} AS a\nENV A=a\nFROM a AS b\nENV A=$A$A\nFROM b\nENV A=$A$A\n",
		"unset in a stage": "FROM scratch AS a\nENV A=" + value + "\nFROM scratch\nENV A=$A$A\n" + strings.Repeat("ENV A=$A$A\n", 40),
		"script with quotes": "FROM debian:12\nENV FLAGS='" + strings.Repeat("-O2 -g ", 60) + "'\nRUN " +
			`a=${a//["\']/_}; b=${b//\"/}; c=${c//'"'/}; \` + "\n" +
			strings.Repeat("gcc $FLAGS -o f f.c; PATH=$PATH:/opt; \\\n", 400) + " true\n",
		"script": "FROM debian:12\nENV L=" + strings.Repeat("a:", 3000) + "\nRUN " + strings.Repeat("echo ${L//:/ } \\\n ${PATH//:/\\}} && \\\n", 100) + " true\n" +
			"COPY <<EOF /f\n" + strings.Repeat("${PATH//:/ } $L\n", 100) + "EOF\n",
	} {
		t.Run(name, func(t *testing.T) {
			req := amd64()
			req.BuildArgs = map[string]string{"A": strings.Repeat("y", 1000)}
			if _, err := parser.Parse(t.Context(), req, withDockerfile(text), nil); err != nil {
				t.Error(err)
			}
		})
	}
}
