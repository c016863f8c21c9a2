package fileop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
	"github.com/sinter-build/sinter/parser"
)

// asked is how often a context may be asked before the middle of what these tests read.
const asked = 16

// TestUnpackedFileEnds: reading what an archive held stops when the context ends.
func TestUnpackedFileEnds(t *testing.T) {
	s := &spool{}
	defer s.Close()
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	c, err := s.add(bytes.NewReader(large), int64(len(large)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.open(archivetest.EndsAfter(asked), "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

// TestWalkEnds: so does looking for files.
func TestWalkEnds(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 * asked {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("a/%d/b", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := buildContext(t, dir, parser.Local{})
	if _, err := matches(archivetest.EndsAfter(asked), files, "a/*/c", true); !errors.Is(err, context.Canceled) {
		t.Errorf("wildcard: %v", err)
	}
	w := walk{fs: files, visit: func(picked) error { return nil }}
	err := w.enter(archivetest.EndsAfter(asked), picked{entry: layers.Entry{Path: "a", Kind: layers.Dir}}, source.Matched{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("directory: %v", err)
	}
}
