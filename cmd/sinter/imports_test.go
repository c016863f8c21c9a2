package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sinter-build/sinter/"

// imports lists what of ours each package imports besides leaves; cmd/sinter may import
// everything, and nobody it. A line that gets longer is a decision: parser, layers and
// cache do not know each other, what images are made of does not know registries, and
// nobody but builder and cmd/sinter runs anything.
var imports = map[string]string{
	"builder":                    "builder/cdi builder/fileop builder/progress builder/runner builder/sandbox builder/source builder/source/git builder/source/image builder/source/local builder/source/web cache layers layers/archive layers/store parser",
	"builder/attest":             "",
	"builder/cdi":                "",
	"builder/export":             "builder/attest builder/export/assemble builder/export/files builder/export/layout builder/export/output builder/export/place builder/progress builder/registry builder/stored layers/image layers/store parser",
	"builder/export/annotation":  "",
	"builder/export/assemble":    "builder/attest builder/export/annotation builder/stored layers layers/archive layers/store",
	"builder/export/exporttest":  "layers layers/archive layers/store",
	"builder/export/files":       "builder/attest builder/export/assemble builder/export/place builder/sandbox/userns layers layers/archive layers/store",
	"builder/export/layout":      "builder/export/place builder/stored layers/archive layers/image",
	"builder/export/output":      "builder/attest builder/export/annotation builder/export/assemble builder/export/place layers/archive",
	"builder/export/place":       "layers/store",
	"builder/fileop":             "builder/source builder/source/local cache layers layers/archive parser",
	"builder/gc":                 "builder/source/remote cache layers layers/image layers/store",
	"builder/imagetools":         "builder/export/annotation builder/registry builder/source/image",
	"builder/load":               "builder/stored layers/archive layers/image layers/store",
	"builder/policy":             "parser",
	"builder/progress":           "parser",
	"builder/provenance":         "parser",
	"builder/redirect/dnstest":   "",
	"builder/registry":           "builder/progress",
	"builder/runner":             "builder/cdi builder/progress builder/sandbox cache layers layers/archive layers/store parser",
	"builder/sandbox":            "builder/sandbox/network builder/sandbox/pid1 builder/sandbox/seccomp builder/sandbox/userns",
	"builder/sandbox/network":    "builder/sandbox/pid1 builder/sandbox/seccomp",
	"builder/sandbox/pid1":       "",
	"builder/sandbox/seccomp":    "",
	"builder/sandbox/ssh":        "",
	"builder/sandbox/userns":     "",
	"builder/sbom":               "layers",
	"builder/source":             "layers layers/store parser",
	"builder/source/git":         "builder/source builder/source/local builder/source/remote layers/archive parser",
	"builder/source/image":       "builder/registry builder/source layers layers/archive layers/image layers/store parser",
	"builder/source/local":       "builder/source layers layers/archive parser",
	"builder/source/remote":      "",
	"builder/source/web":         "builder/source builder/source/remote layers layers/archive parser",
	"builder/stored":             "layers layers/image layers/store",
	"cache":                      "",
	"cmd/sinter-sbom":            "builder/sbom cmd/sinter-sbom/catalog layers layers/store",
	"cmd/sinter-sbom/catalog":    "builder/sbom layers",
	"layers":                     "",
	"layers/archive":             "layers",
	"layers/archive/archivetest": "",
	"layers/image":               "",
	"layers/store":               "layers layers/archive",
	"parser":                     "",
}

// leaves have one small matter each, which all packages may use, and use none of
// ours themselves but other leaves.
var leaves = []string{"builder/manifest", "builder/redirect", "builder/transfer", "layers/folder", "layers/hint", "layers/hostfile"}

// frontend may be imported by the parser alone, and scanner by the second program.
const (
	frontend = "github.com/moby/buildkit/frontend"
	scanner  = "github.com/anchore/syft/syft"
)

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImportDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Imports,Deps", module+"...").Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		checkImports(t, p)
	}
	if seen < 5 {
		t.Fatalf("only %d packages were looked at", seen)
	}
}

func checkImports(t *testing.T, p goPackage) {
	self := strings.TrimPrefix(p.ImportPath, module)
	for _, imported := range p.Imports {
		if strings.HasPrefix(imported, frontend) && self != "parser" {
			t.Errorf("%s imports %s: only the parser may", self, imported)
		}
	}
	if slices.Contains(p.Deps, scanner) && !strings.HasPrefix(self, "cmd/sinter-sbom") {
		t.Errorf("%s depends on syft", self)
	}
	if slices.Contains(leaves, self) && slices.ContainsFunc(p.Deps, func(dep string) bool {
		other, ours := strings.CutPrefix(dep, module)
		return ours && !slices.Contains(leaves, other)
	}) {
		t.Errorf("%s depends on packages of ours", self)
	}
	if self == "cmd/sinter" || slices.Contains(leaves, self) {
		return
	}
	allowed, ok := imports[self]
	if !ok {
		t.Errorf("%s has no line in imports", self)
	}
	for _, imported := range p.Imports {
		other, ours := strings.CutPrefix(imported, module)
		if ours && !slices.Contains(leaves, other) && !slices.Contains(strings.Fields(allowed), other) {
			t.Errorf("%s imports %s", self, other)
		}
	}
	for other := range strings.FieldsSeq(allowed) {
		if !slices.Contains(p.Imports, module+other) {
			t.Errorf("%s does not import %s any more", self, other)
		}
	}
	// It is initialised in every process that a build starts.
	if self == "builder/sandbox/userns" && slices.ContainsFunc(p.Deps, func(dep string) bool { return strings.HasPrefix(dep, "github.com/moby/buildkit") }) {
		t.Errorf("%s depends on BuildKit", self)
	}
}

// TestDependenciesAreExplained: every module that is asked for has its line in
// ARCHITECTURE.md.
func TestDependenciesAreExplained(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json", filepath.Join("..", "..", "go.mod")).Output()
	if err != nil {
		t.Fatalf("reading go.mod: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Dependencies")
	direct := 0
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		direct++
		if name := strings.TrimPrefix(r.Path, "github.com/"); !strings.Contains(table, name) {
			t.Errorf("ARCHITECTURE.md does not say why there is %s", name)
		}
	}
	if direct < 5 {
		t.Errorf("only %d modules were looked at", direct)
	}
}

// TestDocumentsNameFiles: source files that documents name are there, in a folder that
// ends as they say.
func TestDocumentsNameFiles(t *testing.T) {
	root := filepath.Join("..", "..")
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			files = append(files, "/"+filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([A-Za-z0-9_/]+\\.go)`")
	seen := 0
	for _, doc := range []string{"README.md", "ARCHITECTURE.md", ".github/SECURITY.md", "builder/sandbox/ADVISORIES.md"} {
		text, err := os.ReadFile(filepath.Join(root, doc))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			seen++
			if !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, "/"+m[1]) }) {
				t.Errorf("%s names %s: not found", doc, m[1])
			}
		}
	}
	if seen == 0 {
		t.Error("no document names a file")
	}
}
