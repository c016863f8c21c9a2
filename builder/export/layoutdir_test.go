package export

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLayoutStaysInside: symlinks that somebody planted in a layout lead no write
// out of it.
func TestLayoutStaysInside(t *testing.T) {
	for _, planted := range []string{"index.json", "oci-layout", "blobs"} {
		t.Run(planted, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			victim := filepath.Join(outside, "victim")
			if planted != "blobs" {
				if err := os.WriteFile(victim, []byte(`{"schemaVersion":2}`), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if err := os.MkdirAll(filepath.Join(victim, "sha256"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(victim, filepath.Join(dir, planted)); err != nil {
				t.Fatal(err)
			}
			s := openStore(t)
			err := WriteLayout(t.Context(), []Named{{Built: assemble(t, s, Options{}, sample(t, s, amd64))}}, dir, func(string) {})
			if planted == "oci-layout" {
				// Nobody reads it, so the link is replaced.
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
			if planted == "blobs" {
				if left, err := os.ReadDir(filepath.Join(victim, "sha256")); err != nil || len(left) > 0 {
					t.Errorf("written outside: %v, %v", left, err)
				}
			} else if data, err := os.ReadFile(victim); string(data) != `{"schemaVersion":2}` || err != nil {
				t.Errorf("the file outside holds %q, %v", data, err)
			}
		})
	}
}
