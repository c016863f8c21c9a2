package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sinter-build/sinter/"

// forbidden lists, for packages whose path begins with the key, what they must
// not import, directly or by way of others.
var forbidden = map[string][]string{
	"parser":                    {"builder", "layers", "cache", "cmd"},
	"layers":                    {"builder", "parser", "cache", "cmd"},
	"cache":                     {"builder", "parser", "layers", "cmd"},
	"builder":                   {"cmd"},
	"builder/sandbox":           {"builder/", "layers", "cache", "parser"},
	"builder/progress":          {"builder/", "layers", "cache"},
	"builder/registry":          {"builder/source", "builder/export", "builder/sandbox", "builder/fileop"},
	"builder/runner":            {"builder/source", "builder/export", "builder/fileop", "builder/registry"},
	"builder/fileop":            {"builder/export", "builder/sandbox", "builder/registry"},
	"builder/gc":                {"builder/registry"},
	"builder/stored":            {"builder/export", "builder/registry", "builder/source"},
	"builder/load":              {"builder/export", "builder/registry"},
	"builder/export":            {"builder/fileop", "builder/source", "builder/load", "builder/gc"},
	"builder/export/annotation": {"builder/registry", "builder/stored", "layers/store"},
	"builder/export/assemble":   {"builder/registry", "builder/export/files", "builder/export/layout", "builder/export/output", "builder/export/place"},
	"builder/export/files":      {"builder/registry", "builder/export/layout", "builder/export/output"},
	"builder/export/layout":     {"builder/registry", "builder/export/assemble", "builder/export/files", "builder/export/output"},
	"builder/export/output":     {"builder/registry", "builder/export/files", "builder/export/layout"},
	"builder/export/place":      {"builder/registry", "builder/stored", "builder/export/output"},
	"builder/imagetools":        {"builder/stored"},
	"builder/source":            {"builder/export", "builder/fileop", "builder/gc", "builder/load", "builder/sandbox"},
	"builder/source/local":      {"builder/registry", "builder/source/git", "builder/source/image", "builder/source/web"},
	"builder/source/git":        {"builder/registry", "builder/source/image", "builder/source/web"},
	"builder/source/web":        {"builder/registry", "builder/source/git", "builder/source/image", "builder/source/local"},
	"builder/source/image":      {"builder/source/git", "builder/source/local", "builder/source/web"},
	"builder/sandbox/userns":    {"github.com/moby/buildkit"},
}

// leaves have one small matter each, which all packages may use, and use none of
// ours themselves but other leaves.
var leaves = []string{"builder/manifest", "builder/redirect", "builder/transfer", "layers/folder", "layers/hint", "layers/hostfile"}

// frontend may be imported by the parser alone.
const frontend = "github.com/moby/buildkit/frontend"

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
	if slices.Contains(leaves, self) && slices.ContainsFunc(p.Deps, func(dep string) bool {
		other, ours := strings.CutPrefix(dep, module)
		return ours && !slices.Contains(leaves, other)
	}) {
		t.Errorf("%s depends on packages of ours", self)
	}
	for from, rules := range forbidden {
		if self != from && !strings.HasPrefix(self, from+"/") {
			continue
		}
		for _, dep := range p.Deps {
			other := strings.TrimPrefix(dep, module)
			if slices.Contains(leaves, other) {
				continue
			}
			for _, rule := range rules {
				bad := other == rule || strings.HasPrefix(other, strings.TrimSuffix(rule, "/")+"/")
				inside := other == from || strings.HasPrefix(other, from+"/")
				if bad && !inside {
					t.Errorf("%s depends on %s", self, other)
				}
			}
		}
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
