package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
)

// large is longer than what is read at once, however that is read.
var large = strings.Repeat("0123456789abcdef", 1<<20)

// asked is how often a context may be asked before the middle of large.
const asked = 16

// TestReadingEnds: whoever reads one large file, in whatever form, stops when the
// context ends.
func TestReadingEnds(t *testing.T) {
	for name, forms := range map[string]Forms{"tar": {Tar: true}, "blob": {Blob: true}, "directory": {Dir: true}} {
		s := open(t, t.TempDir(), Options{})
		l, e := writeLarge(t, s, forms)
		r, err := s.OpenFile(archivetest.EndsAfter(asked), l, e)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		wantEnded(t, name, r)
		if !forms.Blob {
			continue
		}
		b, err := s.OpenBlob(archivetest.EndsAfter(asked), l)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		wantEnded(t, "the blob itself", b)
	}
}

// TestPackingEnds: so does whoever packs one.
func TestPackingEnds(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	upper := t.TempDir()
	if err := os.WriteFile(filepath.Join(upper, "large"), []byte(large), 0o644); err != nil {
		t.Fatal(err)
	}
	l, changed, err := s.CommitUpper(ctx, upper, nil, nil, made)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	if l, err = s.Pack(archivetest.EndsAfter(asked), l, archive.Compression{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", l.Descriptor, err)
	}
}

// writeLarge writes a layer of one file.
func writeLarge(t *testing.T, s *Store, forms Forms) (layers.Layer, layers.Entry) {
	t.Helper()
	w, err := s.NewWriter(ctx, forms, archive.Compression{Type: archive.Uncompressed})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	e := layers.Entry{Path: "large", Mode: 0o644, Size: int64(len(large)), UID: os.Getuid(), GID: os.Getgid()}
	if err := w.Add(e, strings.NewReader(large)); err != nil {
		t.Fatal(err)
	}
	l, err := w.Commit(made)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := s.Tree(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	return l, tree.Entries[0]
}

func wantEnded(t *testing.T, what string, r io.Reader) {
	t.Helper()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) || n == 0 {
		t.Errorf("%s: read %d bytes: %v", what, n, err)
	}
}

// TestMeasuringEnds: whoever measures layers stops in the middle of one.
func TestMeasuringEnds(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	upper := t.TempDir()
	for i := range 10 * asked {
		if err := os.WriteFile(filepath.Join(upper, strconv.Itoa(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, changed, err := s.CommitUpper(ctx, upper, nil, nil, made); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if usage, err := s.Usage(archivetest.EndsAfter(asked), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", usage, err)
	}
}
