package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestForeignFolder: a directory of something else is not taken for a store, so nothing
// in it is removed.
func TestForeignFolder(t *testing.T) {
	for _, tt := range []struct {
		name    string
		files   []string // those that end in / are directories
		foreign string
	}{
		{"empty", nil, ""},
		{"a new volume", []string{"lost+found/"}, ""},
		{"a store that was begun", []string{"blobs/sha256/", "tmp/"}, ""},
		{"a store that lost its empty folders", []string{"layers/x/layer.json", "blobs/sha256/00"}, ""},
		{"a store without layers", []string{"index.copy", "blobs/sha256/00"}, ""},
		{"a home", []string{"tmp/file", "locks/file"}, "locks/file"},
		{"what builds without images leave", []string{"steps/", "content/", "locks/x", "tmp/", "contexts/x"}, ""},
		{"what checks leave", []string{"contexts/x"}, ""},
		{"an empty folder more", []string{"tmp/", "work/"}, ""},
		{"a folder on another disk", []string{"layers -> elsewhere"}, ""},
		{"a folder more", []string{"tmp/", "work/x"}, "work/x"},
		{"an image layout", []string{"oci-layout", "index.json", "blobs/sha256/00"}, "blobs/sha256"},
		{"a file that is called as a folder", []string{"tmp"}, "tmp"},
	} {
		root := t.TempDir()
		for _, f := range tt.files {
			if link, target, ok := strings.Cut(f, " -> "); ok {
				target = filepath.Join(t.TempDir(), target)
				if err := errors.Join(os.Mkdir(target, 0o700), os.Symlink(target, filepath.Join(root, link))); err != nil {
					t.Fatal(err)
				}
				continue
			}
			path := filepath.Join(root, f)
			dir := filepath.Dir(path)
			if f[len(f)-1] == '/' {
				dir = path
			}
			err := os.MkdirAll(dir, 0o755)
			if err == nil && dir != path {
				err = os.WriteFile(path, []byte("mine"), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(root, Options{})
		var foreign *ForeignError
		if errors.As(err, &foreign) != (tt.foreign != "") || err != nil && foreign == nil {
			t.Errorf("%s: got %v", tt.name, err)
			continue
		}
		if foreign == nil {
			if err := s.Close(); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if foreign.Entry != tt.foreign && tt.name != "an image layout" {
			t.Errorf("%s: it has %s", tt.name, foreign.Entry)
		}
		for _, f := range tt.files {
			if _, err := os.Stat(filepath.Join(root, f)); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if entries, err := os.ReadDir(root); err != nil || len(entries) > len(tt.files) {
			t.Errorf("%s: something was made in it: %v, %v", tt.name, entries, err)
		}
	}
}
