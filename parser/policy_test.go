package parser_test

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/parser"
)

// TestPolicyComesFirst: about a source that must not be used nothing is asked, and the
// error has the place of the instruction that names it.
func TestPolicyComesFirst(t *testing.T) {
	for denied, test := range map[string]struct {
		dockerfile string
		line       int
		request    parser.Request
	}{
		"docker-image://docker.io/library/debian:12":     {"FROM scratch\nFROM debian:12\n", 2, amd64()},
		"docker-image://docker.io/library/golang:1.26":   {"FROM debian:12\nCOPY --from=golang:1.26 / /\n", 2, amd64()},
		"docker-image://docker.io/library/alpine:latest": {"FROM debian:12\nRUN --mount=from=alpine true\n", 2, amd64()},
		"docker-image://docker.io/docker/dockerfile:1":   {"# syntax=docker/dockerfile:1\nFROM scratch\n", 1, amd64()},
		"https://example.com/f":                          {"FROM scratch\nADD https://example.com/f /\n", 2, amd64()},
		"git://example.com/r.git#v1":                     {"FROM scratch\nADD https://example.com/r.git#v1 /\n", 2, amd64()},
		"local://context":                                {"FROM scratch\nCOPY f /\n", 0, amd64()},
		"local://dockerfile":                             {"FROM scratch\n", 0, amd64()},
		"https://example.com/ctx.tar":                    {"", 0, parser.Request{Context: "https://example.com/ctx.tar"}},
		"git://example.com/ctx.git":                      {"", 0, parser.Request{Context: "https://example.com/ctx.git"}},
		"oci-layout://docker.io/library/base@sha256:" + strings.Repeat("a", 64): {"FROM base\n", 1, parser.Request{
			Contexts: map[string]string{"base": "oci-layout://mystore@sha256:" + strings.Repeat("a", 64)},
		}},
	} {
		t.Run(denied, func(t *testing.T) {
			m, because := withDockerfile(test.dockerfile), errors.New("because")
			test.request.Policy = func(s parser.Source) (parser.Source, error) {
				if s.Identifier == denied {
					return s, because
				}
				return s, nil
			}
			_, err := parser.Parse(t.Context(), test.request, m, nil)
			if !errors.Is(err, because) {
				t.Fatalf("error %v", err)
			}
			var e *parser.Error
			if line := 0; errors.As(err, &e) && len(e.Ranges) > 0 {
				if line = e.Ranges[0].Start.Line; line != test.line {
					t.Errorf("the error is of line %d, want %d", line, test.line)
				}
			} else if test.line != 0 {
				t.Errorf("the error has no place, want line %d", test.line)
			}
			_, name, _ := strings.Cut(denied, "://")
			name = regexp.QuoteMeta(strings.TrimPrefix(name, "docker.io/library/"))
			for _, question := range slices.Sorted(maps.Keys(m.asked)) {
				if regexp.MustCompile(name + `($|[ @])`).MatchString(question) {
					t.Errorf("it was asked about: %s", question)
				}
			}
		})
	}
}

// TestPolicyConverts: the graph holds the sources that are used.
func TestPolicyConverts(t *testing.T) {
	m := withDockerfile("FROM debian:12\nADD https://example.com/f /\nCOPY g /\n")
	m.locals["other"] = m.locals["context"]
	req := amd64()
	req.Policy = func(s parser.Source) (parser.Source, error) {
		s.Identifier = strings.NewReplacer("debian:12", "alpine:latest", "example.com/f", "example.com/g", "local://context", "local://other").Replace(s.Identifier)
		if strings.HasPrefix(s.Identifier, "https:") {
			s.Attrs = map[string]string{"http.checksum": "sha256:" + strings.Repeat("a", 64)}
		}
		return s, nil
	}
	g, err := parser.Parse(t.Context(), req, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case parser.Image:
			ref, _, _ := strings.Cut(op.Ref, "@")
			got = append(got, ref)
		case parser.HTTP:
			got = append(got, op.URL+" "+string(op.Checksum))
		case parser.Local:
			got = append(got, op.Name)
		}
	}
	slices.Sort(got)
	want := []string{"docker.io/library/alpine:latest", "https://example.com/g sha256:" + strings.Repeat("a", 64), "other"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	op, err := req.SourceOp(parser.Source{Identifier: "https://example.com/f"})
	if h, ok := op.(parser.HTTP); err != nil || !ok || h.URL != "https://example.com/g" {
		t.Errorf("outside of the Dockerfile: %+v, %v", op, err)
	}
	req.Policy = func(parser.Source) (parser.Source, error) { return parser.Source{Identifier: "ftp://x"}, nil }
	if _, err := req.SourceOp(parser.Source{Identifier: "https://example.com/f"}); err == nil {
		t.Error("a source of no kind is taken")
	}
}
