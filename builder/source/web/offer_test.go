package web

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// TestOffer: what was offered is served, and no server is asked for what was not.
func TestOffer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := fetcher(t, t.TempDir(), nil)
	address, err := f.Offer(t.Context(), file)
	if err != nil || !IsOffered(address) {
		t.Fatalf("got %q, %v", address, err)
	}
	if _, err := f.Files(t.Context(), parser.HTTP{URL: address}); err != nil {
		t.Error(err)
	}
	_, err = f.Files(t.Context(), parser.HTTP{URL: address + "7"})
	if err == nil || !strings.Contains(err.Error(), "is not an upload of this build") || hint.Of(err) == "" {
		t.Errorf("got %v", err)
	}
}
