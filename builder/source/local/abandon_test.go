package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
	"github.com/sinter-build/sinter/parser"
)

// large is longer than what is read at once, however that is read.
var large = bytes.Repeat([]byte("0123456789abcdef"), 1<<20)

// asked is how often a context may be asked before the middle of large.
const asked = 16

// TestReadingEnds: whoever reads or hashes one large file stops when the context ends.
func TestReadingEnds(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), large, 0o644); err != nil {
		t.Fatal(err)
	}
	local := open(t, dir, "")
	entry := layers.Entry{Path: "large", Mode: 0o644, Size: int64(len(large))}
	for what, read := range map[string]func(context.Context) error{
		"file": func(ctx context.Context) error {
			r, err := local.Select(parser.Local{}).Open(ctx, entry)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		},
		"digest": func(ctx context.Context) error {
			_, err := local.digest(ctx, entry)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			if err := read(archivetest.EndsAfter(asked)); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}
