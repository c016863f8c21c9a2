package export

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestStale: what a killed process left beside the output goes when it is old;
// nobody else's file does.
func TestStale(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * stale)
	for name, at := range map[string]time.Time{
		".out.0123456789ab.tmp": old, ".out.ab.tmp": old, ".other.0123456789ab.tmp": old, ".out.0123456789ab.tmpx": old,
		".out.ba9876543210.tmp": time.Now(),
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	err := writeFile(filepath.Join(dir, "out"), func(w io.Writer) error {
		_, err := io.WriteString(w, "whole")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{".other.0123456789ab.tmp", ".out.0123456789ab.tmpx", ".out.ab.tmp", ".out.ba9876543210.tmp", "out"}
	if !slices.Equal(names, want) {
		t.Fatalf("got %q, want %q", names, want)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "out")); string(data) != "whole" || err != nil {
		t.Fatalf("got %q, %v", data, err)
	}
}
