package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
	"github.com/sinter-build/sinter/parser"
)

// roomPerFile is how many bytes a file of a context may take that was looked at,
// hashed and asked for by its path, with its name and the maps that it is in.
const roomPerFile = 270

// TestRoomPerFile: a context of many files takes little memory for each.
func TestRoomPerFile(t *testing.T) {
	const files = 3000
	dir := t.TempDir()
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%05d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := archivetest.Heap()
	l, err := Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := l.Select(parser.Local{})
	if err := digestAll(seen); err != nil {
		t.Fatal(err)
	}
	took := archivetest.Heap() - before
	runtime.KeepAlive(seen)
	if perFile := took / files; perFile > roomPerFile {
		t.Errorf("%d bytes for each file, more than %d", perFile, roomPerFile)
	}
}

func digestAll(files source.FS) error {
	entries, err := files.ReadDir("")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, _, err := files.Lookup(e.Path); err != nil {
			return err
		}
		if e.Kind != layers.File {
			continue
		}
		if _, err := files.Digest(context.Background(), e); err != nil {
			return err
		}
	}
	return nil
}
