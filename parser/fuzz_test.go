package parser_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sinter-build/sinter/parser"
)

// FuzzParse: whatever the Dockerfile holds, there is a graph that is in order,
// or an error that says where.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(a.Files[0].Data))
	}
	f.Add("# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM scratch\n")
	f.Fuzz(func(t *testing.T, dockerfile string) {
		if len(dockerfile) > 4<<10 || strings.Contains(dockerfile, "@") || strings.Contains(dockerfile, "ssh:") {
			t.Skip("long, or with an ssh URL, whose host the frontend asks for its key")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		g, err := parser.Parse(ctx, amd64(), withDockerfile(dockerfile), nil)
		var e *parser.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if err == nil {
			check(t, g)
		}
	})
}

// check looks for what must hold in every graph.
func check(t *testing.T, g *parser.Graph) {
	t.Helper()
	if len(g.Targets) != 1 || !ordered(g) {
		t.Fatalf("%d targets, or not in order", len(g.Targets))
	}
	used := map[*parser.Node]bool{g.Targets[0].Node: true}
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			used[in.Node] = true
		}
		for _, r := range n.Pos {
			if r.File >= len(g.Files) {
				t.Errorf("%s: a position in file %d of %d", n.Name, r.File, len(g.Files))
			}
		}
		if x, ok := n.Op.(parser.Exec); ok {
			for _, m := range x.Mounts {
				if m.Input >= len(n.Inputs) {
					t.Errorf("%s: a mount of input %d of %d", n.Name, m.Input, len(n.Inputs))
				}
			}
		}
	}
	for _, n := range g.Nodes {
		if !used[n] {
			t.Errorf("%s: nobody needs it", n.Name)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	a, err := txtar.ParseFile("testdata/copy.txtar")
	if err != nil {
		b.Fatal(err)
	}
	m := withDockerfile(string(a.Files[0].Data))
	for b.Loop() {
		if _, err := parser.Parse(b.Context(), amd64(), m, nil); err != nil {
			b.Fatal(err)
		}
	}
}
