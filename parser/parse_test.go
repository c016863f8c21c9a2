package parser_test

import (
	"encoding/json"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

func amd64() parser.Request {
	return parser.Request{BuildPlatform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
}

func parse(t *testing.T, req parser.Request, m *memory) *parser.Graph {
	t.Helper()
	g, err := parser.Parse(t.Context(), req, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestParseQuick(t *testing.T) {
	g := parse(t, amd64(), withDockerfile("FROM debian:12\nRUN echo hi\nCOPY a b /x/\nCOPY --link c /d\nENTRYPOINT x\n"))
	d, _ := json.MarshalIndent(g.Nodes, "", " ")
	t.Log(string(d), string(g.Targets[0].Config))
}
