package fileop

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// discard is a Writer that reads everything and keeps nothing.
type discard struct{}

func (discard) Add(_ layers.Entry, content io.Reader) error {
	if content == nil {
		return nil
	}
	_, err := io.Copy(io.Discard, content)
	return err
}

// manyFiles makes a directory of 20,000 small files.
func manyFiles(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	for i := range 200 {
		sub := filepath.Join(dir, fmt.Sprintf("package%d/src", i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for k := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d.js", k)), []byte(fmt.Sprint(i, k)), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return dir
}

// BenchmarkKey is what a COPY of 20,000 files costs when nothing has changed.
func BenchmarkKey(b *testing.B) {
	dir, indexDir := manyFiles(b), b.TempDir()
	for b.Loop() {
		l, err := local.Open(dir, indexDir)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Digest(context.Background(), l.Select(parser.Local{Exclude: []string{"**/node_modules", "*.log"}}), Selected(dockerCopy("", "/app"))); err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopy is what finding, reading and ordering 20,000 files costs.
func BenchmarkCopy(b *testing.B) {
	dir := manyFiles(b)
	for b.Loop() {
		l, err := local.Open(dir, "")
		if err != nil {
			b.Fatal(err)
		}
		op := parser.FileOp{Actions: []parser.FileAction{{Input: -1, Secondary: 0, Action: dockerCopy("", "/app")}}}
		if _, err := Apply(context.Background(), op, []Input{{FS: l.Select(parser.Local{})}}, "", func(int) (Writer, error) { return discard{}, nil }); err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
