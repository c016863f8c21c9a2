package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sinter-build/sinter/builder/export/exporttest"
	"github.com/sinter-build/sinter/builder/sbom"
	"github.com/sinter-build/sinter/cmd/sinter-sbom/catalog"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
)

// TestMain makes the test's binary sinter-sbom itself for those that run it as such.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "sinter-sbom" {
		main()
		return
	}
	os.Exit(m.Run())
}

// scanner is one for all tests: it takes a second to make.
var scanner = catalog.NewScanner()

// call runs the program.
func call(t *testing.T, env map[string]string, stdin []byte, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), scanner, args, func(name string) string { return env[name] }, bytes.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"scan", "x"}} {
		if code, _, stderr := call(t, nil, nil, args...); code != 2 || !strings.Contains(stderr, "usage: sinter-sbom") {
			t.Errorf("%q: %d, %s", args, code, stderr)
		}
	}
	if code, stdout, _ := call(t, nil, nil, "--version"); code != 0 || !strings.HasPrefix(stdout, "sinter-sbom ") {
		t.Errorf("%d, %s", code, stdout)
	}
}

func npm(name string) exporttest.File {
	return exporttest.Regular("app/node_modules/"+name+"/package.json", `{"name":"`+name+`","version":"1.0.0"}`)
}

// newStore returns a store that is closed, and a chain of it.
func newStore(t *testing.T) (root string, chain layers.Chain) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "store")
	s, err := store.Open(root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	chain = layers.Chain{
		exporttest.Layer(t, s, exporttest.Noon, npm("a")), exporttest.Layer(t, s, exporttest.Noon, npm("b")),
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return root, chain
}

func ask(t *testing.T, r sbom.Request) (code int, answer *sbom.Answer, stderr string) {
	t.Helper()
	r.Handshake = sbom.Hello()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir()) // the program changes it
	code, stdout, stderr := call(t, nil, data, sbom.RequestArg)
	if code != 0 {
		return code, nil, stderr
	}
	answer, err = sbom.ReadAnswer([]byte(stdout), r)
	if err != nil {
		t.Fatal(err)
	}
	return code, answer, stderr
}

// TestRequest: layers of a store are read, and what was found is there the next time.
func TestRequest(t *testing.T) {
	root, chain := newStore(t)
	r := sbom.Request{Store: root, Format: sbom.SPDX, Created: exporttest.Noon, Subjects: []sbom.Subject{
		{Name: "image", Layers: chain, Architecture: "amd64"}, {Name: "stage", Layers: chain[:1]},
	}}
	_, first, stderr := ask(t, r)
	if first == nil {
		t.Fatal(stderr)
	}
	want := []sbom.Package{
		{Name: "a", Version: "1.0.0", Type: "npm", PURL: "pkg:npm/a@1.0.0", Layer: 0, Path: "/app/node_modules/a/package.json"},
		{Name: "b", Version: "1.0.0", Type: "npm", PURL: "pkg:npm/b@1.0.0", Layer: 1, Path: "/app/node_modules/b/package.json"},
	}
	if !slices.Equal(first.Packages["image"], want) || !slices.Equal(first.Packages["stage"], want[:1]) {
		t.Errorf("found %+v", first.Packages)
	}
	for _, l := range chain {
		if text := string(first.Documents["image"]); !strings.Contains(text, "layerID: "+l.Descriptor.Digest.String()) {
			t.Errorf("the document does not name layer %s", l.Descriptor.Digest)
		}
	}
	answers, err := os.ReadDir(filepath.Join(root, cacheName, "answers"))
	if err != nil || len(answers) != 2 {
		t.Errorf("kept %v, %v", answers, err)
	}
	_, second, stderr := ask(t, r)
	if second == nil {
		t.Fatal(stderr)
	}
	if !bytes.Equal(first.Documents["image"], second.Documents["image"]) || !slices.Equal(second.Packages["image"], want) {
		t.Error("the second answer is another one")
	}
	r.Created = r.Created.Add(time.Hour)
	if _, later, _ := ask(t, r); later == nil || bytes.Equal(later.Documents["image"], first.Documents["image"]) {
		t.Error("the time of an older answer was taken")
	}
	// A cache that cannot be written to is not needed.
	if err := os.RemoveAll(filepath.Join(root, cacheName)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, cacheName), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, a, stderr := ask(t, r); a == nil || len(a.Warnings) != 2 || !slices.Equal(a.Packages["image"], want) {
		t.Errorf("without a cache: %+v, %s", a, stderr)
	}
	temp, err := os.ReadDir(filepath.Join(root, "tmp"))
	if err != nil || len(temp) != 0 {
		t.Errorf("left in the store: %v, %v", temp, err)
	}
}

func TestRefusals(t *testing.T) {
	root, chain := newStore(t)
	subjects := []sbom.Subject{{Name: "image", Layers: chain}}
	missing := chain[0]
	missing.ID = layers.ID(strings.Repeat("0", 64))
	missing.Descriptor.Digest = "sha256:" + layersDigest
	for name, r := range map[string]sbom.Request{
		"no layer":  {Store: root, Format: sbom.SPDX, Subjects: []sbom.Subject{{Name: "image", Layers: layers.Chain{missing}}}},
		"no format": {Store: root, Subjects: subjects},
		"relative":  {Store: "store", Format: sbom.SPDX, Subjects: subjects},
	} {
		if code, a, stderr := ask(t, r); code != 1 || !strings.HasPrefix(stderr, "error: ") {
			t.Errorf("%s: %d, %v, %s", name, code, a, stderr)
		}
	}
	code, _, stderr := call(t, nil, []byte(`{"protocol":99,"version":"v9"}`), sbom.RequestArg)
	if code != 1 || !strings.Contains(stderr, "version v9 (protocol 99)") || !strings.Contains(stderr, "hint: use sinter and sinter-sbom of one version") {
		t.Errorf("%d, %s", code, stderr)
	}
}

const layersDigest = "0000000000000000000000000000000000000000000000000000000000000000"

// TestProtocol: BuildKit's scanner protocol.
func TestProtocol(t *testing.T) {
	dir := t.TempDir()
	for path, content := range map[string]string{
		"core/sbom/app/node_modules/a/package.json": `{"name":"a","version":"1.0.0"}`,
		"core/sbom/same": "x",
		"extras/sbom-base/usr/lib/b.dist-info/METADATA": "Metadata-Version: 2.1\nName: b\nVersion: 2.0\n",
		"core/sbom/node_modules/broken/package.json":    `{"name":`,
		"outside/node_modules/c/package.json":           `{"name":"c","version":"1.0.0"}`,
		"out/keep":                                      "",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	core := filepath.Join(dir, "core", "sbom")
	for from, to := range map[string]string{"outside": "../../outside", "loop": "loop", "root": "/"} {
		if err := os.Symlink(to, filepath.Join(core, from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(core, "same"), filepath.Join(core, "also")); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		envSource: core, envExtras: filepath.Join(dir, "extras"), envDestination: filepath.Join(dir, "out"),
		envEpoch: "1700000000", envPlatform: "linux/arm64/v8",
	}
	if code, _, stderr := call(t, env, nil); code != 0 || !strings.Contains(stderr, "warning: ") || !strings.Contains(stderr, "/broken/package.json") {
		t.Fatal(code, stderr)
	}
	for name, want := range map[string]string{"sbom": "pkg:npm/a@1.0.0", "sbom-base": "pkg:pypi/b@2.0"} {
		data, err := os.ReadFile(filepath.Join(dir, "out", name+".spdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Type          string `json:"_type"`
			PredicateType string
			Subject       []any
			Predicate     struct {
				SPDXVersion  string
				CreationInfo struct{ Created string }
				Packages     []struct {
					ExternalRefs []struct{ ReferenceType, ReferenceLocator string }
				}
			}
		}
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		if s.Type != "https://in-toto.io/Statement/v0.1" || s.PredicateType != "https://spdx.dev/Document" || s.Subject == nil ||
			s.Predicate.SPDXVersion != "SPDX-2.3" || s.Predicate.CreationInfo.Created != "2023-11-14T22:13:20Z" {
			t.Errorf("%s: %+v", name, s)
		}
		var purls []string
		for _, p := range s.Predicate.Packages {
			for _, r := range p.ExternalRefs {
				if r.ReferenceType == "purl" {
					purls = append(purls, r.ReferenceLocator)
				}
			}
		}
		if !slices.Equal(purls, []string{want}) {
			t.Errorf("%s has %q, want %q", name, purls, want)
		}
	}
	// Optional parameters may be missing, and name what is not there.
	for _, extras := range []string{"", filepath.Join(dir, "nowhere")} {
		env[envExtras] = extras
		if code, _, stderr := call(t, env, nil); code != 0 {
			t.Errorf("extras %q: %s", extras, stderr)
		}
	}
	for name, wrong := range map[string]string{envDestination: "", envSource: filepath.Join(dir, "nowhere"), envEpoch: "noon"} {
		was := env[name]
		env[name] = wrong
		if code, _, stderr := call(t, env, nil); code != 1 || !strings.HasPrefix(stderr, "error: ") {
			t.Errorf("%s=%q: %d, %s", name, wrong, code, stderr)
		}
		env[name] = was
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "nowhere"))
	if code, _, stderr := call(t, env, nil); code != 1 || !strings.Contains(stderr, "hint: mount a tmpfs at /tmp") {
		t.Errorf("without a temporary directory: %d, %s", code, stderr)
	}
}

// TestWalk: a directory is what it is as a layer.
func TestWalk(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a-b", "a/x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "b"), filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	tree, err := walk(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Validate(); err != nil {
		t.Error(err)
	}
	var got []string
	for _, e := range tree.Entries {
		got = append(got, strings.TrimSpace(strings.Join([]string{e.Path, e.Target, e.Link}, " ")))
	}
	if want := []string{"", "a", "a/x", "a-b", "b", "c  b", "link b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	ctx, end := context.WithCancel(context.Background())
	end()
	if _, err := walk(ctx, dir); err == nil {
		t.Error("a walk that was told to end goes on")
	}
}

// TestScan: sinter finds the program on PATH, and both understand each other.
func TestScan(t *testing.T) {
	root, chain := newStore(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "sinter-sbom")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	r := sbom.Request{
		Store: root, Format: sbom.CycloneDX, Created: exporttest.Noon, Subjects: []sbom.Subject{{Name: "image", Layers: chain}},
	}
	a, err := sbom.Scan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(a.Documents["image"]); len(a.Packages["image"]) != 2 || !strings.Contains(text, `"bomFormat":"CycloneDX"`) {
		t.Errorf("%+v, %.200s", a.Packages, text)
	}
	r.Subjects[0].Layers[1].ID = "gone"
	r.Subjects[0].Layers[1].Descriptor.Digest = "sha256:" + layersDigest
	if a, err := sbom.Scan(t.Context(), r); err == nil || !strings.Contains(err.Error(), "reading the layers of image") {
		t.Errorf("%v, %v", a, err)
	}
}
