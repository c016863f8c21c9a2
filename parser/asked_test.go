package parser_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

// TestAsked has what provenance tells beside the graph.
func TestAsked(t *testing.T) {
	const text = "FROM b AS x\nFROM --platform=linux/riscv64 a AS y\nFROM scratch\nCOPY --from=x /f /\nCOPY --from=y /f /\n"
	amd64, arm64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}
	m := &memory{
		images: map[string]ocispec.Image{"docker.io/library/a:latest": {}, "docker.io/library/b:latest": {}},
		locals: map[string]fstest.MapFS{"dockerfile": {"Dockerfile": {Data: []byte(text)}}},
		nodes:  map[string]fstest.MapFS{"https://example.com/r.git": {"Dockerfile": {Data: []byte(text)}}},
	}
	const images = "docker.io/library/a:latest linux/riscv64, docker.io/library/b:latest linux/amd64, docker.io/library/b:latest linux/arm64"
	for name, test := range map[string]struct {
		req            parser.Request
		locals, opened string
	}{
		"directory":               {parser.Request{}, "context dockerfile", ""},
		"repository":              {parser.Request{Context: "https://example.com/r.git"}, "", "https://example.com/r.git"},
		"repository, not its own": {parser.Request{Context: "https://example.com/r.git", LocalDockerfile: true}, "dockerfile", ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.req.Platforms, test.req.MultiPlatform, test.req.BuildPlatform = []ocispec.Platform{arm64, amd64}, true, amd64
			g, err := parser.Parse(t.Context(), test.req, m, nil)
			if err != nil {
				t.Fatal(err)
			}
			asked := g.Asked()
			var found, opened []string
			for _, i := range asked.Images {
				found = append(found, fmt.Sprintf("%s %s/%s", i.Ref, i.Platform.OS, i.Platform.Architecture))
			}
			for _, n := range asked.Opened {
				opened = append(opened, n.Op.(parser.Git).FullURL)
			}
			if got := strings.Join(found, ", "); got != images {
				t.Errorf("images %s, want %s", got, images)
			}
			if got := strings.Join(asked.Locals, " "); got != test.locals {
				t.Errorf("directories %q, want %q", got, test.locals)
			}
			if !slices.Equal(opened, strings.Fields(test.opened)) {
				t.Errorf("opened %q, want %q", opened, test.opened)
			}
			if got := asked.Options["filename"]; got != "Dockerfile" {
				t.Errorf("the Dockerfile is %q", got)
			}
		})
	}
}
