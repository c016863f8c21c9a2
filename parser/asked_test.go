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
		key            string
	}{
		"directory":               {parser.Request{LocalDockerfile: true}, "context dockerfile", "", ""},
		"standard input":          {parser.Request{LocalDockerfile: true, LoneDockerfile: true}, "context dockerfile", "", "dockerfile"},
		"repository":              {parser.Request{Context: "https://example.com/r.git"}, "", "https://example.com/r.git", ""},
		"repository, not its own": {parser.Request{Context: "https://example.com/r.git", LocalDockerfile: true}, "dockerfile", "", "dockerfile"},
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
			if got := asked.Options["dockerfilekey"]; got != test.key {
				t.Errorf("dockerfilekey is %q, want %q", got, test.key)
			}
		})
	}
}

// TestAskedIndex: as in BuildKit's provenance, several platforms need no option to become
// an index, and a build argument that decides about it is told as it was given.
func TestAskedIndex(t *testing.T) {
	m := &memory{locals: map[string]fstest.MapFS{"dockerfile": {"Dockerfile": {Data: []byte("FROM scratch\nLABEL a=b\n")}}}}
	amd64, arm64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}
	arg := map[string]string{"BUILDKIT_MULTI_PLATFORM": "1"}
	for name, test := range map[string]struct {
		req  parser.Request
		want string
	}{
		"one platform":            {parser.Request{}, ""},
		"one platform's index":    {parser.Request{MultiPlatform: true}, "true"},
		"two platforms":           {parser.Request{MultiPlatform: true, Platforms: []ocispec.Platform{amd64, arm64}}, ""},
		"one platform, argument":  {parser.Request{MultiPlatform: true, BuildArgs: arg}, "1"},
		"two platforms, argument": {parser.Request{MultiPlatform: true, BuildArgs: arg, Platforms: []ocispec.Platform{amd64, arm64}}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := parser.Parse(t.Context(), test.req, m, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := g.Asked().Options["multi-platform"]; got != test.want {
				t.Errorf("multi-platform is %q, want %q", got, test.want)
			}
		})
	}
}
