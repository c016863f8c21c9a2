package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoginFollowsNoForeignLink: a password goes to no file that another user
// chose.
func TestLoginFollowsNoForeignLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make files of another user")
	}
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	link := filepath.Join(dir, "config.json")
	err := errors.Join(os.Chmod(dir, 0o777|os.ModeSticky), os.WriteFile(victim, []byte("{}"), 0o600),
		os.Symlink(victim, link), os.Lchown(link, 54321, 54321))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("SINTER_ROOT", filepath.Join(t.TempDir(), "store"))
	var stderr bytes.Buffer
	args := []string{"login", "--username", "somebody", "--password-stdin", serveRegistry(t)}
	if code := run(args, strings.NewReader("secret\n"), &stderr, &stderr); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(stderr.String(), "is a symlink that belongs to user 54321") {
		t.Errorf("got %s", &stderr)
	}
	if data, err := os.ReadFile(victim); string(data) != "{}" || err != nil {
		t.Errorf("the file holds %q, %v", data, err)
	}
}
