package parser_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sinter-build/sinter/parser"
)

// amd64 is a request of a machine that is always the same.
func amd64() parser.Request {
	return parser.Request{BuildPlatform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
}

// TestGraph parses the Dockerfiles of testdata and compares the graphs. Each
// file holds a Dockerfile, files of the context (context/NAME), perhaps the
// name of a target, and the graph. UPDATE=1 writes the graphs anew.
func TestGraph(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, req, want := fromArchive(t, a)
			g, err := parser.Parse(t.Context(), req, m, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := []byte(dump(g))
			if os.Getenv("UPDATE") != "" {
				want.Data = got
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, want.Data) {
				t.Errorf("got\n%s\nwant\n%s", got, want.Data)
			}
		})
	}
}

func fromArchive(t *testing.T, a *txtar.Archive) (*memory, parser.Request, *txtar.File) {
	t.Helper()
	m, req := withDockerfile(""), amd64()
	var want *txtar.File
	for i, f := range a.Files {
		dir, name, _ := strings.Cut(f.Name, "/")
		switch {
		case f.Name == "graph":
			want = &a.Files[i]
		case f.Name == "target":
			req.Target = strings.TrimSpace(string(f.Data))
		case dir == "context":
			m.locals["context"][name] = &fstest.MapFile{Data: f.Data}
		default:
			m.locals["dockerfile"][f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	if want == nil {
		t.Fatal("no graph in the file")
	}
	return m, req, want
}
