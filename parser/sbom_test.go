package parser_test

import (
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

// TestScan: the builder's scanner is shown the image, and what the Dockerfile asks for.
func TestScan(t *testing.T) {
	m := withDockerfile("ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM debian:12 AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN make\nFROM scratch\nCOPY --from=build /made /\n")
	req := amd64()
	if g := parse(t, req, m); g.Targets[0].Scan.Node != nil {
		t.Error("nobody asked for a scan")
	}
	req.SBOM = &parser.SBOM{}
	g := parse(t, req, m)
	scan := g.Targets[0].Scan.Node
	op, ok := scan.Op.(parser.Scan)
	if want := []string{"sbom", "sbom-build", "sbom-context"}; !ok || !slices.Equal(op.Names, want) || op.Architecture != "amd64" {
		t.Fatalf("got %+v", scan.Op)
	}
	if scan.Inputs[0].Node != g.Targets[0].Node {
		t.Error("the scan called sbom is not that of the image")
	}
	if slices.Contains(g.Below(g.Targets[0]), scan) {
		t.Error("the image needs its scan")
	}
}

// TestScanOfPlatforms: platforms with the same files and architecture have one scan.
func TestScanOfPlatforms(t *testing.T) {
	req := parser.Request{SBOM: &parser.SBOM{}, Platforms: []ocispec.Platform{
		{OS: "linux", Architecture: "arm", Variant: "v6"}, {OS: "linux", Architecture: "arm", Variant: "v7"}, {OS: "linux", Architecture: "amd64"},
	}}
	g := parse(t, req, withDockerfile("FROM scratch\nCOPY f /\n"))
	a, b, c := g.Targets[0].Scan.Node, g.Targets[1].Scan.Node, g.Targets[2].Scan.Node
	if a == nil || a != b || a == c || len(ops[parser.Scan](g)) != 2 {
		t.Errorf("scans %v, %v, %v of %d", a, b, c, len(ops[parser.Scan](g)))
	}
}

// TestGenerator: a scanner's image runs by BuildKit's protocol, and its parameters decide
// the step.
func TestGenerator(t *testing.T) {
	m := withDockerfile("FROM debian:12 AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN make\nFROM scratch\nCOPY --from=build /made /\n")
	scanner := m.images["docker.io/library/debian:12"]
	scanner.Config.Entrypoint, scanner.Config.Env = []string{"/scan"}, []string{"A=b"}
	m.images["docker.io/library/scanner:latest"] = scanner
	req := amd64()
	req.SBOM = &parser.SBOM{Generator: "scanner", Parameters: map[string]string{"B": "2", "A": "1"}}
	scan := parse(t, req, m).Targets[0].Scan.Node
	op, ok := scan.Op.(parser.Exec)
	if !ok || !slices.Equal(op.Args, []string{"/scan", "bash"}) {
		t.Fatalf("got %+v", scan.Op)
	}
	for _, want := range []string{
		"A=b", "BUILDKIT_SCAN_A=1", "BUILDKIT_SCAN_B=2", "BUILDKIT_SCAN_DESTINATION=/run/out/",
		"BUILDKIT_SCAN_SOURCE=/run/src/core/sbom", "BUILDKIT_SCAN_SOURCE_EXTRAS=/run/src/extras",
	} {
		if !slices.Contains(op.Env, want) {
			t.Errorf("no %s in %q", want, op.Env)
		}
	}
	var mounts []string
	for _, mount := range op.Mounts {
		mounts = append(mounts, mount.Dest)
	}
	slices.Sort(mounts)
	if got := strings.Join(mounts, " "); got != "/ /run/src/core/sbom /run/src/extras/sbom-build /tmp" {
		t.Errorf("mounts at %s", got)
	}
	req.SBOM.Parameters["A"] = "3"
	if other := parse(t, req, m).Targets[0].Scan.Node; other.ID == scan.ID {
		t.Error("the parameters do not count")
	}
}
