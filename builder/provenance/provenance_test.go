package provenance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

// world answers the frontend and the provenance.
type world struct {
	parser.Resolver
	dockerfile string
}

func (w world) ReadLocal(_ context.Context, name, file string) ([]byte, error) {
	if name == "dockerfile" && file == "Dockerfile" {
		return []byte(w.dockerfile), nil
	}
	return nil, fs.ErrNotExist
}

func (w world) StatLocal(_ context.Context, name, file string) (fs.FileInfo, error) {
	return fstest.MapFS{"Dockerfile": {}}.Stat(file)
}

func (w world) IgnoreFile(_, file string) string { return file }

func (w world) ResolveImage(_ context.Context, ref string, p *ocispec.Platform, _ bool) (parser.ImageMeta, error) {
	config, err := json.Marshal(ocispec.Image{Platform: *p, Config: ocispec.ImageConfig{Env: []string{"PATH=/bin"}}})
	return parser.ImageMeta{Ref: ref, Digest: digest.FromString(ref), Config: config}, err
}

func (w world) ResolveGit(context.Context, string, parser.Git) (parser.GitMeta, error) {
	return parser.GitMeta{}, nil
}

func (w world) ResolveHTTP(context.Context, string, parser.HTTP) (parser.HTTPMeta, error) {
	return parser.HTTPMeta{Digest: digest.FromString("file")}, nil
}

// OpenNode has the Dockerfile in a repository, and as the download that is a context.
func (w world) OpenNode(context.Context, *parser.Graph, parser.Input) (fs.FS, error) {
	return fstest.MapFS{"Dockerfile": {Data: []byte(w.dockerfile)}, "context": {Data: []byte(w.dockerfile)}}, nil
}

func (w world) Image(context.Context, parser.Op, ocispec.Platform) (digest.Digest, error) {
	return digest.FromString("asked"), nil
}

func (w world) Commit(context.Context, parser.Git) (string, error) {
	return strings.Repeat("c", 40), nil
}

func (w world) Digest(context.Context, parser.HTTP) (digest.Digest, error) {
	return digest.FromString("file"), nil
}

const dockerfile = `
FROM example.com/base:1 AS build
ARG VERSION
ARG API_TOKEN
RUN --mount=type=secret,id=pw --mount=type=ssh use $VERSION $API_TOKEN
ADD https://user:p4ssw0rd@example.com/file /f
ADD https://example.com/repo.git#v1 /repo
COPY <<EOT /config
token=$API_TOKEN
EOT
FROM scratch
COPY --from=build /f /repo /config /
COPY x /
`

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func newBuild(t *testing.T, text string, req parser.Request) Build {
	t.Helper()
	req.BuildPlatform = amd64
	w := world{dockerfile: text}
	g, err := parser.Parse(t.Context(), req, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Build{
		Graph: g, Pins: w, Started: time.Unix(1_700_000_000, 5).UTC(), Finished: time.Unix(1_700_000_060, 0).UTC(),
		VCS: map[string]string{"revision": "abc", "source": "https://example.com/x.git", "localdir:context": "."},
	}
}

var args = map[string]string{"VERSION": "17.42", "API_TOKEN": "hunter2hunter"}

func predicate(t *testing.T, b Build, attrs map[string]string) string {
	t.Helper()
	o, err := ParseOptions(attrs)
	if err != nil {
		t.Fatal(err)
	}
	data, err := b.Predicate(t.Context(), 0, o)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMaterials(t *testing.T) {
	b := newBuild(t, dockerfile, parser.Request{BuildArgs: args})
	var p types.ProvenancePredicateSLSA1
	if err := json.Unmarshal([]byte(predicate(t, b, map[string]string{"mode": "min", "builder-id": "me"})), &p); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		got = append(got, fmt.Sprint(d.URI, " ", d.Digest))
	}
	want := []string{
		"pkg:docker/example.com/base@1?platform=linux%2Famd64 map[sha256:" + digest.FromString("example.com/base:1").Encoded() + "]",
		"https://example.com/repo.git#v1 map[sha1:" + strings.Repeat("c", 40) + "]",
		"https://xxxxx:xxxxx@example.com/file map[sha256:" + digest.FromString("file").Encoded() + "]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("materials:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	run := p.RunDetails
	if run.Builder.ID != "me" || !run.Metadata.StartedOn.Equal(b.Started) || !run.Metadata.FinishedOn.Equal(b.Finished) {
		t.Errorf("run details: %+v", run)
	}
	if run.Metadata.Hermetic || run.Metadata.Completeness.ResolvedDependencies || run.Metadata.Completeness.Request {
		t.Error("a build with the network, files of this machine and hidden arguments is said to be complete")
	}
	if vcs := run.Metadata.BuildKitMetadata.VCS; vcs["revision"] != "abc" || vcs["localdir:context"] != "." {
		t.Errorf("the repository is %v", vcs)
	}
	if c := p.BuildDefinition.ExternalParameters.ConfigSource; c.Path != "Dockerfile" || c.URI != "" {
		t.Errorf("the configuration is from %+v", c)
	}
}

// The repository or download that the Dockerfile is from is a material, whatever is copied
// from it, and the configuration has its digest.
func TestRemoteContext(t *testing.T) {
	commit, sum := strings.Repeat("c", 40), digest.FromString("file").Encoded()
	for context, want := range map[string]string{
		"https://u:p@example.com/r.git#main": "https://xxxxx:xxxxx@example.com/r.git#main map[sha1:" + commit + "]",
		"https://example.com/file":           "https://example.com/file map[sha256:" + sum + "]",
	} {
		for _, text := range []string{"FROM scratch\nLABEL a=b\n", "FROM scratch\nCOPY x /\n"} {
			b := newBuild(t, text, parser.Request{Context: context})
			var p types.ProvenancePredicateSLSA1
			if err := json.Unmarshal([]byte(predicate(t, b, map[string]string{"complete-materials": "true"})), &p); err != nil {
				t.Fatal(err)
			}
			deps := p.BuildDefinition.ResolvedDependencies
			if len(deps) != 1 || fmt.Sprint(deps[0].URI, " ", deps[0].Digest) != want {
				t.Errorf("%s: %q: materials %+v, want %s", context, text, deps, want)
			}
			if c := p.BuildDefinition.ExternalParameters.ConfigSource; fmt.Sprint(c.URI, " ", c.Digest) != want {
				t.Errorf("%s: %q: the configuration is from %+v, want %s", context, text, c, want)
			}
		}
	}
}

var encoded = regexp.MustCompile(`[A-Za-z0-9+/]{8,}={0,2}`)

// holds reports whether text is in data, as it is or in base64.
func holds(data, text string) bool {
	if strings.Contains(data, text) {
		return true
	}
	for _, word := range encoded.FindAllString(data, -1) {
		if plain, err := base64.StdEncoding.DecodeString(word); err == nil && strings.Contains(string(plain), text) {
			return true
		}
	}
	return false
}

func TestNoSecretIsTold(t *testing.T) {
	b := newBuild(t, dockerfile, parser.Request{BuildArgs: args, Labels: map[string]string{"secret-label": "told"}})
	for _, version := range []string{"v1", "v0.2"} {
		for _, mode := range []string{"min", "max"} {
			text := predicate(t, b, map[string]string{"mode": mode, "version": version})
			for _, secret := range []string{"hunter2hunter", "p4ssw0rd"} {
				if holds(text, secret) {
					t.Errorf("version %s, mode %s tells %s:\n%s", version, mode, secret, text)
				}
			}
			for _, only := range []string{"17.42", "API_TOKEN", `"pw"`, "secret-label", "use $VERSION"} {
				if told := holds(text, only); told != (mode == "max") {
					t.Errorf("version %s, mode %s: %q told: %t", version, mode, only, told)
				}
			}
			if !holds(text, "repo.git") {
				t.Error("the search for texts finds nothing")
			}
		}
	}
}

// Values are hidden however short they are, in addresses, and in files that are not text.
func TestSecretsOfAllShapesAreHidden(t *testing.T) {
	args := map[string]string{"PIN_SECRET": "q7z", "UMLAUT_TOKEN": "Schlüssel +/é"}
	b := newBuild(t, `
FROM example.com/base:1
ARG PIN_SECRET
ARG UMLAUT_TOKEN
RUN use
ADD https://example.com/$UMLAUT_TOKEN/repo.git#v1 /repo
COPY <<EOT /config
`+"\xff"+`$UMLAUT_TOKEN
EOT
`, parser.Request{BuildArgs: args})
	text := predicate(t, b, nil)
	for _, secret := range []string{"q7z", "Schl"} {
		if holds(text, secret) {
			t.Errorf("%s is told:\n%s", secret, text)
		}
	}
	for _, name := range []string{`"PIN_SECRET=xxxxx"`, `"build-arg:PIN_SECRET":"xxxxx"`, "example.com/xxxxx/repo.git"} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is missing:\n%s", name, text)
		}
	}
}

// With an epoch, two runs state the same; without, each says when it was.
func TestDeterministic(t *testing.T) {
	req := parser.Request{BuildArgs: args, Epoch: "1000"}
	state := func(req parser.Request, at time.Time) string {
		b := newBuild(t, dockerfile, req)
		b.Started, b.Finished = at, at
		return predicate(t, b, nil)
	}
	one, two := state(req, time.Unix(5000, 0)), state(req, time.Unix(6000, 0))
	if one != two {
		t.Errorf("with an epoch two runs differ:\n%s\n%s", one, two)
	}
	if !strings.Contains(one, `"startedOn":"1970-01-01T00:16:40Z"`) {
		t.Errorf("it does not have the epoch's time:\n%s", one)
	}
	req.Epoch = ""
	one, two = state(req, time.Unix(5000, 0)), state(req, time.Unix(5000, 0))
	if one == two {
		t.Error("without an epoch two runs have the same ID")
	}
}

func TestMax(t *testing.T) {
	b := newBuild(t, dockerfile, parser.Request{BuildArgs: args})
	nodes := b.Graph.Below(b.Graph.Targets[0])
	last := nodes[len(nodes)-1].ID
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("l"), Size: 1}
	b.Layers = func(context.Context) (map[digest.Digest][]ocispec.Descriptor, error) {
		return map[digest.Digest][]ocispec.Descriptor{last: {layer}, digest.FromString("unknown"): {layer}}, nil
	}
	var p types.ProvenancePredicateSLSA1
	if err := json.Unmarshal([]byte(predicate(t, b, nil)), &p); err != nil {
		t.Fatal(err)
	}
	config := p.BuildDefinition.InternalParameters.BuildConfig
	if config == nil || len(config.Definition) != len(nodes)+1 {
		t.Fatalf("it has %+v, want the %d steps and their end", config, len(nodes))
	}
	step, ok := config.DigestMapping[last]
	if layers := p.RunDetails.Metadata.BuildKitMetadata.Layers; !ok || len(layers) != 1 || layers[step+":0"][0][0].Digest != layer.Digest {
		t.Errorf("layers by step: %v; the last step is %q", layers, step)
	}
	source := p.RunDetails.Metadata.BuildKitMetadata.Source
	if source == nil || len(source.Infos) != 1 || !strings.Contains(string(source.Infos[0].Data), "FROM scratch") || len(source.Locations) == 0 {
		t.Errorf("the Dockerfile is %+v", source)
	}
	// Nothing but an empty image has no steps.
	empty := newBuild(t, "FROM scratch\nLABEL a=b\n", parser.Request{})
	predicate(t, empty, nil)
}

// What was asked for another platform is not a material of this one.
func TestPlatforms(t *testing.T) {
	arm64 := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	text := "FROM --platform=$BUILDPLATFORM tools:1 AS tools\nRUN x\nFROM base:1\nCOPY --from=tools /x /\n"
	b := newBuild(t, text, parser.Request{Platforms: []ocispec.Platform{arm64, amd64}, MultiPlatform: true})
	for i, want := range []string{"linux%2Farm64", "linux%2Famd64"} {
		data, err := b.Predicate(t.Context(), i, Default)
		if err != nil {
			t.Fatal(err)
		}
		var p types.ProvenancePredicateSLSA1
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range p.BuildDefinition.ResolvedDependencies {
			got = append(got, d.URI)
		}
		if want := []string{"pkg:docker/base@1?platform=" + want, "pkg:docker/tools@1?platform=linux%2Famd64"}; strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("target %d: %q, want %q", i, got, want)
		}
	}
}

// Images that were asked for at once have an order: of these, none is for every platform.
func TestOrderOfImages(t *testing.T) {
	text := "FROM base:1 AS amd64\nFROM base:1 AS arm64\nFROM scratch AS s390x\nFROM $TARGETARCH\nLABEL a=b\n"
	req := parser.Request{MultiPlatform: true, Epoch: "1", Platforms: []ocispec.Platform{
		{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "s390x"}, amd64,
	}}
	first := ""
	for range 20 {
		b := newBuild(t, text, req)
		data, err := b.Predicate(t.Context(), 1, Default)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(data)
		}
		if first != string(data) {
			t.Fatalf("two runs differ:\n%s\n%s", first, data)
		}
	}
	if strings.Count(first, `"pkg:docker/base@1?`) != 2 {
		t.Errorf("want base:1 for two platforms:\n%s", first)
	}
}

// noDigest does not know what an image was.
type noDigest struct{ Pins }

func (noDigest) Image(context.Context, parser.Op, ocispec.Platform) (digest.Digest, error) {
	return "", nil
}

func TestMissingDigest(t *testing.T) {
	b := newBuild(t, "FROM scratch\nCOPY x /\n", parser.Request{})
	n := &parser.Node{Op: parser.Image{Ref: "example.com/base:1"}, Platform: amd64}
	b.Graph.Nodes, b.Graph.Targets[0].Node, b.Pins = []*parser.Node{n}, n, noDigest{b.Pins}
	if _, err := b.Predicate(t.Context(), 0, Default); err == nil || !strings.Contains(err.Error(), "image example.com/base:1") {
		t.Errorf("got %v", err)
	}
}

func TestComplete(t *testing.T) {
	complete := map[string]string{"complete-materials": "true"}
	o, err := ParseOptions(complete)
	if err != nil {
		t.Fatal(err)
	}
	b := newBuild(t, dockerfile, parser.Request{BuildArgs: args})
	if _, err := b.Predicate(t.Context(), 0, o); err == nil || !strings.Contains(err.Error(), "context") {
		t.Errorf("a build with a local context is complete: %v", err)
	}
}

func TestParseOptions(t *testing.T) {
	o, err := ParseOptions(map[string]string{
		"mode": "min", "version": "v0.2", "builder-id": "x", "reproducible": "true", "inline-only": "1", "filename": "p.json", "capture-usage": "false",
	})
	if want := (Options{Version: "v0.2", BuilderID: "x", Reproducible: true, InlineOnly: true, File: "p.json"}); err != nil || o != want {
		t.Errorf("got %+v, %v; want %+v", o, err, want)
	}
	if o, err = ParseOptions(nil); err != nil || !o.Max || o.PredicateType() != "https://slsa.dev/provenance/v1" {
		t.Errorf("without attributes: %+v, %v", o, err)
	}
	for key, value := range map[string]string{
		"mode": "odd", "version": "v2", "reproducible": "x", "inline-only": "", "complete-materials": "?", "filename": "../x", "capture-usage": "true", "moon": "1", "max": "",
	} {
		if o, err := ParseOptions(map[string]string{key: value}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s=%s: %+v, %v", key, value, o, err)
		}
	}
}

// FuzzHide: whatever a predicate holds, no value of a secret argument is told, in text or in
// base64. A value that the mask has or completes cannot be told from it.
func FuzzHide(f *testing.F) {
	f.Add("hunter2hunter", "token=hunter2hunter", []byte("\xffhunter2hunter"))
	f.Add("a+b/c d", "https://example.com/a+b%2Fc%20d", []byte(`"a+b/c d"`))
	f.Add("pass:w@rd", "https://user:pass:w@rd@example.com/", []byte("https://u:p@h"))
	f.Add("one\ntwo", `one\ntwo`, []byte("one\r\ntwo"))
	f.Fuzz(func(t *testing.T, secret, text string, file []byte) {
		if len(secret) < 4 || secret == "true" || secret == "false" || strings.Contains(secret, "x") || !utf8.ValidString(secret+text) {
			return
		}
		b := newBuild(t, "FROM scratch\nCOPY x /\n", parser.Request{BuildArgs: map[string]string{"API_TOKEN": secret}})
		data, err := b.encode(map[string]any{"args": []string{text, "API_TOKEN=" + secret}, "url": text, "data": file})
		if err != nil {
			t.Fatal(err)
		}
		var told struct {
			Args []string
			URL  string
			Data []byte
		}
		if err := json.Unmarshal(data, &told); err != nil {
			t.Fatal(err)
		}
		for _, s := range append(told.Args, told.URL, string(told.Data)) {
			if strings.Contains(s, secret) {
				t.Errorf("%q is told: %q", secret, s)
			}
		}
	})
}
