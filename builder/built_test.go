package builder

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/parser"
)

// builtRecord returns the file of the only record of when an image was built.
func (b *bench) builtRecord() string {
	b.Helper()
	all, err := b.config().Cache.All(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range all {
		if r.Record.Kind == cache.FirstBuild {
			key := r.Record.Key.String()
			return filepath.Join(b.root, "steps", key[:2], key)
		}
	}
	b.Fatal("record not found")
	return ""
}

// TestBuiltRecordUnreadable: a record of when an image was built that cannot be read
// fails the build; one that is damaged or missing is made anew.
func TestBuiltRecordUnreadable(t *testing.T) {
	b := newBench(t)
	graph := func() *parser.Graph { return graphOf(mkfile("step", "/f", "text")) }
	first := b.build(graph())
	path := b.builtRecord()
	for name, c := range map[string]struct {
		spoil func() error
		fails bool
	}{
		"missing":   {func() error { return nil }, false},
		"damaged":   {func() error { return os.WriteFile(path, []byte("x"), 0o644) }, false},
		"directory": {func() error { return os.Mkdir(path, 0o755) }, false},
		"loop":      {func() error { return os.Symlink(path, path) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(); err != nil {
				t.Fatal(err)
			}
			o, err := b.try(graph())
			if c.fails {
				if err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || !o.Targets[0].Built.After(first.Targets[0].Built) {
				t.Errorf("not built anew: %v", err)
			}
		})
	}
}
