package remote

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWithoutUser(t *testing.T) {
	for address, want := range map[string]string{
		"https://name:word@host/path@x?q#f": "https://host/path@x?q#f", "https://host": "https://host",
		"ssh://git@host:22/x.git": "ssh://host:22/x.git", "https://a@b@host": "https://host", "git@host:x": "git@host:x",
	} {
		if got := WithoutUser(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

func TestSecret(t *testing.T) {
	broken := errors.New("broken")
	c := Config{Secrets: func(id string) ([]byte, error) {
		switch id {
		case "file":
			return []byte("secret\r\n"), nil
		case "broken":
			return nil, broken
		}
		return nil, fs.ErrNotExist
	}}
	for id, want := range map[string]struct {
		value string
		ok    bool
		err   error
	}{"file": {"secret", true, nil}, "none": {}, "broken": {err: broken}} {
		if value, ok, err := c.Secret(id); value != want.value || ok != want.ok || !errors.Is(err, want.err) {
			t.Errorf("%s: got %q, %t, %v", id, value, ok, err)
		}
	}
	if _, ok, err := (Config{}).Secret("file"); ok || err != nil {
		t.Errorf("without secrets: %t, %v", ok, err)
	}
}

// A folder is claimed before anything else, is cleared of what a killed process left,
// and says what it is for and when it was used.
func TestLock(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "git", Name("https://host", "user"))
	var claimed []string
	c := Config{Root: root, Claim: func(folder string) error {
		claimed = append(claimed, folder)
		return nil
	}}
	for range 2 {
		f, err := c.Lock(t.Context(), dir, "https://host")
		if err != nil {
			t.Fatal(err)
		}
		left := filepath.Join(dir, TempPrefix+"x", "y")
		if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a leftover is there: %v", err)
		}
		if err := errors.Join(os.MkdirAll(left, 0o755), os.Chtimes(filepath.Join(dir, OriginFile), time.Time{}, time.Unix(1, 0)), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if len(claimed) != 2 || claimed[0] != filepath.Join("git", filepath.Base(dir)) {
		t.Errorf("claimed %q", claimed)
	}
	if err := Use(dir, "another address"); err != nil || Origin(dir) != "https://host" || Used(dir).Unix() == 1 {
		t.Errorf("it is for %q and was used at %s: %v", Origin(dir), Used(dir), err)
	}
	c.Claim = func(string) error { return fs.ErrPermission }
	if _, err := c.Lock(t.Context(), filepath.Join(root, "git", "new"), "https://new"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("without a claim: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "git", "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder was made without a claim: %v", err)
	}
}
