package parser_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

func parse(t *testing.T, req parser.Request, m *memory) *parser.Graph {
	t.Helper()
	g, err := parser.Parse(t.Context(), req, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ops are the graph's operations of one kind.
func ops[T parser.Op](g *parser.Graph) []T {
	var found []T
	for _, n := range g.Nodes {
		if op, ok := n.Op.(T); ok {
			found = append(found, op)
		}
	}
	return found
}

func config(t *testing.T, g *parser.Graph, target int) ocispec.Image {
	t.Helper()
	var img ocispec.Image
	if err := json.Unmarshal(g.Targets[target].Config, &img); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestRequest sets each field of a request and looks for what it does.
func TestRequest(t *testing.T) {
	const dockerfile = "FROM debian:12 AS base\nARG A=none\nRUN echo $A\nFROM base AS last\nRUN two\n"
	for name, test := range map[string]struct {
		set  func(*parser.Request)
		want func(*testing.T, *parser.Graph) bool
	}{
		"target": {
			func(r *parser.Request) { r.Target = "base" },
			func(_ *testing.T, g *parser.Graph) bool { return len(g.Nodes) == 2 },
		},
		"build argument": {
			func(r *parser.Request) { r.BuildArgs = map[string]string{"A": "given"} },
			func(_ *testing.T, g *parser.Graph) bool {
				return slices.Contains(ops[parser.Exec](g)[0].Env, "A=given")
			},
		},
		"proxy": {
			func(r *parser.Request) { r.BuildArgs = map[string]string{"HTTP_PROXY": "http://p", "no_proxy": "x"} },
			func(_ *testing.T, g *parser.Graph) bool {
				return ops[parser.Exec](g)[0].Proxy == parser.Proxy{HTTP: "http://p", No: "x"}
			},
		},
		"label": {
			func(r *parser.Request) { r.Labels = map[string]string{"k": "v"} },
			func(t *testing.T, g *parser.Graph) bool { return config(t, g, 0).Config.Labels["k"] == "v" },
		},
		"no cache": {
			func(r *parser.Request) { r.NoCache = true },
			func(_ *testing.T, g *parser.Graph) bool { return g.Nodes[1].NoCache && g.Nodes[2].NoCache },
		},
		"no cache for a stage": {
			func(r *parser.Request) { r.NoCacheFilter = []string{"LAST", "other"} },
			func(_ *testing.T, g *parser.Graph) bool { return !g.Nodes[1].NoCache && g.Nodes[2].NoCache },
		},
		"network": {
			func(r *parser.Request) { r.Network = parser.NetNone },
			func(_ *testing.T, g *parser.Graph) bool { return ops[parser.Exec](g)[0].Network == parser.NetNone },
		},
		"hosts": {
			func(r *parser.Request) { r.AddHosts = []parser.Host{{"a", "1.2.3.4"}, {"b", "::1"}} },
			func(_ *testing.T, g *parser.Graph) bool {
				return slices.Equal(ops[parser.Exec](g)[0].ExtraHosts, []parser.Host{{"a", "1.2.3.4"}, {"b", "::1"}})
			},
		},
		"shm size": {
			func(r *parser.Request) { r.ShmSize = 1 << 20 },
			func(_ *testing.T, g *parser.Graph) bool {
				return slices.Contains(ops[parser.Exec](g)[0].Mounts,
					parser.Mount{Type: parser.MountTmpfs, Dest: "/dev/shm", Input: -1, Output: -1, TmpfsSize: 1 << 20})
			},
		},
		"ulimits": {
			func(r *parser.Request) { r.Ulimits = []parser.Ulimit{{"nofile", 10, 20}, {"core", -1, -1}} },
			func(_ *testing.T, g *parser.Graph) bool {
				return slices.Equal(ops[parser.Exec](g)[0].Ulimits, []parser.Ulimit{{"nofile", 10, 20}, {"core", -1, -1}})
			},
		},
		"cgroup parent": {
			func(r *parser.Request) { r.CgroupParent = "/builds" },
			func(_ *testing.T, g *parser.Graph) bool { return ops[parser.Exec](g)[0].CgroupParent == "/builds" },
		},
		"hostname": {
			func(r *parser.Request) { r.Hostname = "box" },
			func(_ *testing.T, g *parser.Graph) bool { return ops[parser.Exec](g)[0].Hostname == "box" },
		},
		"resources": {
			func(r *parser.Request) {
				r.Resources = parser.Resources{1 << 30, -1, 512, 100000, 50000, "0-1", "0"}
			},
			func(_ *testing.T, g *parser.Graph) bool {
				return ops[parser.Exec](g)[0].Resources == parser.Resources{1 << 30, -1, 512, 100000, 50000, "0-1", "0"}
			},
		},
		"epoch": {
			func(r *parser.Request) { r.Epoch = "1700000000" },
			func(_ *testing.T, g *parser.Graph) bool {
				e := g.Targets[0].Epoch
				return e != nil && *e == 1700000000
			},
		},
		"epoch of a local context": {
			func(r *parser.Request) { r.Epoch = "context" },
			func(_ *testing.T, g *parser.Graph) bool { return g.Targets[0].Epoch == nil },
		},
		"epoch by build argument": {
			func(r *parser.Request) {
				r.Epoch, r.BuildArgs = "5", map[string]string{"SOURCE_DATE_EPOCH": "6"}
			},
			func(_ *testing.T, g *parser.Graph) bool { return *g.Targets[0].Epoch == 6 },
		},
		"syntax": {
			func(r *parser.Request) {
				r.BuildArgs = map[string]string{"BUILDKIT_SYNTAX": "docker/dockerfile:1.7-labs"}
			},
			func(_ *testing.T, g *parser.Graph) bool { return len(g.Nodes) == 3 },
		},
		"base config": {
			func(*parser.Request) {},
			func(_ *testing.T, g *parser.Graph) bool {
				return strings.Contains(string(g.Targets[0].BaseConfig), "ADD rootfs")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := amd64()
			test.set(&req)
			g := parse(t, req, withDockerfile(dockerfile))
			if !test.want(t, g) {
				t.Errorf("got\n%s", dump(g))
			}
		})
	}
}

func TestPull(t *testing.T) {
	req := amd64()
	req.Pull = true
	m := withDockerfile("FROM debian:12\n")
	parse(t, req, m)
	if m.asked["image docker.io/library/debian:12 linux/amd64 pull=true"] != 1 {
		t.Errorf("asked %v", m.asked)
	}
}

// TestPlatforms: one target for each, in order; what does not depend on the
// target platform is one node.
func TestPlatforms(t *testing.T) {
	req := amd64()
	req.Platforms = []ocispec.Platform{
		{OS: "linux", Architecture: "riscv64"},
		{OS: "linux", Architecture: "arm", Variant: "v7"},
		{OS: "linux", Architecture: "amd64"},
	}
	m := withDockerfile(`# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
RUN fetch
ARG TARGETARCH TARGETVARIANT
RUN make $TARGETARCH$TARGETVARIANT
FROM debian:12
COPY --from=build /out /
`)
	g := parse(t, req, m)
	var got []string
	for i, target := range g.Targets {
		c := config(t, g, i)
		got = append(got, target.Platform.Architecture+target.Platform.Variant, c.Architecture+c.Variant)
	}
	if want := []string{"riscv64", "riscv64", "armv7", "armv7", "amd64", "amd64"}; !slices.Equal(got, want) {
		t.Errorf("platforms %v, want %v", got, want)
	}
	var fetches, makes int
	for _, x := range ops[parser.Exec](g) {
		switch cmd := x.Args[2]; {
		case cmd == "fetch":
			fetches++
		case strings.HasPrefix(cmd, "make"):
			makes++
		}
	}
	if fetches != 1 || makes != 3 {
		t.Errorf("%d fetches and %d makes, want 1 and 3", fetches, makes)
	}
	for question, times := range m.asked {
		if times != 1 {
			t.Errorf("%q was asked %d times", question, times)
		}
	}
	if !ordered(g) {
		t.Errorf("a node comes before its input:\n%s", dump(g))
	}
}

func TestOnePlatformIndex(t *testing.T) {
	req := amd64()
	req.MultiPlatform = true
	req.Platforms = []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}
	g := parse(t, req, withDockerfile("FROM debian:12\nRUN x\n"))
	if len(g.Targets) != 1 || g.Targets[0].Node == nil || g.Targets[0].Platform.Architecture != "arm64" {
		t.Errorf("got\n%s", dump(g))
	}
}

// ordered reports whether every node comes after its inputs.
func ordered(g *parser.Graph) bool {
	seen := map[*parser.Node]bool{}
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			if in.Node != nil && !seen[in.Node] {
				return false
			}
		}
		seen[n] = true
	}
	return true
}

func TestNamedContexts(t *testing.T) {
	const layout = "oci-layout://mystore@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	req := amd64()
	req.Contexts = map[string]string{
		"dir":                           "local:mydir",
		"golang:1.26":                   "docker-image://docker.io/library/alpine",
		"fromlayout":                    layout,
		"repo":                          "https://github.com/moby/buildkit.git#v0.10.1",
		"page":                          "https://example.com/x.txt",
		"alpine:latest::linux/amd64/v1": "docker-image://debian:12",
		"empty":                         "docker-image://scratch",
	}
	m := withDockerfile(`FROM golang:1.26 AS a
RUN a
FROM fromlayout AS b
RUN b
FROM alpine
COPY --from=dir src /src
COPY --from=dir other /other
COPY --from=a / /a
COPY --from=b / /b
COPY --from=repo / /c
COPY --from=page / /d
COPY --from=empty / /e
`)
	m.locals["mydir"] = fstest.MapFS{".dockerignore": {Data: []byte("*.o\n")}}
	g := parse(t, req, m)
	locals, images, layouts := ops[parser.Local](g), ops[parser.Image](g), ops[parser.OCILayout](g)
	if len(locals) != 2 { // one for each COPY, with what that needs
		t.Fatalf("locals %+v", locals)
	}
	for i, path := range []string{"src", "other"} {
		l := locals[i]
		if l.Name != "mydir" || !slices.Equal(l.Exclude, []string{"*.o"}) || !slices.Equal(l.FollowPaths, []string{path}) {
			t.Errorf("local %d: %+v", i, l)
		}
	}
	var refs []string
	for _, img := range images {
		name, _, _ := strings.Cut(img.Ref, "@")
		refs = append(refs, name)
	}
	slices.Sort(refs)
	if want := []string{"docker.io/library/alpine:latest", "docker.io/library/debian:12"}; !slices.Equal(refs, want) {
		t.Errorf("images %v, want %v", refs, want)
	}
	if len(layouts) != 1 || layouts[0].StoreID != "mystore" || !strings.HasSuffix(layouts[0].Ref, layout[len("oci-layout://mystore"):]) {
		t.Errorf("layouts %+v", layouts)
	}
	if gits := ops[parser.Git](g); len(gits) != 1 || gits[0].Ref != "v0.10.1" {
		t.Errorf("git %+v", gits)
	}
	if https := ops[parser.HTTP](g); len(https) != 1 || https[0].URL != "https://example.com/x.txt" {
		t.Errorf("http %+v", https)
	}
}

// TestGitContext reads the Dockerfile from the repository.
func TestGitContext(t *testing.T) {
	req := amd64()
	req.Context = "https://github.com/o/r.git#main:sub"
	req.Dockerfile = "build/Dockerfile"
	m := withDockerfile("")
	m.nodes = map[string]fstest.MapFS{
		"https://github.com/o/r.git": {"build/Dockerfile": {Data: []byte("FROM scratch\nCOPY a /\n")}},
	}
	g := parse(t, req, m)
	if gits := ops[parser.Git](g); len(gits) != 1 || gits[0].Ref != "main" || gits[0].Subdir != "sub" {
		t.Errorf("got\n%s", dump(g))
	}
	if m.asked["node https://github.com/o/r.git"] != 1 {
		t.Errorf("asked %v", m.asked)
	}
	req.LocalDockerfile, req.Dockerfile = true, ""
	m.locals["dockerfile"]["Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch\nCOPY b c /\n")}
	if g := parse(t, req, m); len(ops[parser.FileOp](g)[0].Actions) != 2 {
		t.Errorf("got\n%s", dump(g))
	}
}

// TestHTTPContext: a file that is no archive is the Dockerfile itself.
func TestHTTPContext(t *testing.T) {
	req := amd64()
	req.Context = "https://example.com/Dockerfile"
	m := withDockerfile("")
	m.nodes = map[string]fstest.MapFS{
		"https://example.com/Dockerfile": {"context": {Data: []byte("FROM debian:12\nRUN x\n")}},
	}
	if g := parse(t, req, m); len(g.Nodes) != 2 {
		t.Errorf("got\n%s", dump(g))
	}
}

// TestEpochOfContext: the time of a commit, or the one that a server tells.
func TestEpochOfContext(t *testing.T) {
	epoch := func(context string, m *memory) *int64 {
		t.Helper()
		req := amd64()
		req.Context, req.Epoch = context, "context"
		return parse(t, req, m).Targets[0].Epoch
	}
	m := withDockerfile("")
	m.commit = []byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1700000000 +0100\ncommitter C <c@d> 1700000001 -0200\n\nx\n")
	dockerfile := &fstest.MapFile{Data: []byte("FROM debian:12\n")}
	m.nodes = map[string]fstest.MapFS{
		"https://github.com/o/r.git":     {"Dockerfile": dockerfile},
		"https://example.com/Dockerfile": {"context": dockerfile},
	}
	if got := epoch("https://github.com/o/r.git#main", m); got == nil || *got != 1700000001 {
		t.Errorf("of a repository: %v", got)
	}
	if got := epoch("https://example.com/Dockerfile", m); got != nil {
		t.Errorf("of a server that does not tell: %d", *got)
	}
	modified := time.Unix(1700000002, 0)
	m.modified = &modified
	if got := epoch("https://example.com/Dockerfile", m); got == nil || *got != 1700000002 {
		t.Errorf("of a server: %v", got)
	}
}

// TestEpochIsInNoStep: with another epoch every step is the same.
func TestEpochIsInNoStep(t *testing.T) {
	m := withDockerfile("FROM debian:12\nWORKDIR /w\nCOPY <<EOF /f\nx\nEOF\nADD a /b/\nRUN c\n")
	steps := func(epoch string) (list []parser.FileOp, execs []parser.Exec) {
		req := amd64()
		req.Epoch = epoch
		g := parse(t, req, m)
		return ops[parser.FileOp](g), ops[parser.Exec](g)
	}
	files, execs := steps("")
	for _, epoch := range []string{"1", "1700000000", "99999999999"} {
		if f, e := steps(epoch); !reflect.DeepEqual(f, files) || !reflect.DeepEqual(e, execs) {
			t.Errorf("with the epoch %s: %+v, %+v, want %+v, %+v", epoch, f, e, files, execs)
		}
	}
}

// TestSameAgain: equal requests make equal graphs.
func TestSameAgain(t *testing.T) {
	req := amd64()
	req.Platforms = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	m := withDockerfile("FROM debian:12\nCOPY a b c d /\nRUN --mount=type=bind,target=/s --mount=type=cache,target=/c x\nCOPY --link e /\n")
	first := dump(parse(t, req, m))
	for range 10 {
		if again := dump(parse(t, req, m)); again != first {
			t.Fatalf("got\n%s\nand\n%s", first, again)
		}
	}
}

// TestTargetContext: a named context is another target of the Dockerfile, with
// its config, even in place of the image that it is made from.
func TestTargetContext(t *testing.T) {
	m := withDockerfile("FROM alpine AS base\nENV A=b\nRUN one\nFROM alpine\nRUN two\n")
	req := amd64()
	req.Contexts = map[string]string{"alpine": "target:base"}
	g := parse(t, req, m)
	if execs := ops[parser.Exec](g); len(execs) != 2 || !slices.Contains(execs[1].Env, "A=b") {
		t.Errorf("got\n%s", dump(g))
	}
	req.Platforms = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	if execs := ops[parser.Exec](parse(t, req, m)); len(execs) != 4 {
		t.Errorf("for two platforms: %d commands", len(execs))
	}
	req.Contexts["alpine"] = "target:nothing"
	_, err := parser.Parse(t.Context(), req, m, nil)
	var e *parser.Error
	if !errors.As(err, &e) || !strings.Contains(e.Msg, `target stage "nothing" could not be found`) || !strings.Contains(e.Hint, "base") {
		t.Errorf("a target that is not there: %v", err)
	}
}
