package store

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// What killed processes left goes when the store is next opened, and what the living
// have begun stays.
func TestLeftovers(t *testing.T) {
	root := t.TempDir()
	living, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(root, "tmp")
	begun := []string{filepath.Join(tmp, ".new-1", "x"), filepath.Join(tmp, ".file-1"), filepath.Join(tmp, "record-1")}
	write := func(paths []string) {
		for _, path := range paths {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(begun)
	held, err := hostfile.LockDir(tmp, hostfile.Shared) // as those do who have begun
	if err != nil {
		t.Fatal(err)
	}
	reopen := func() (left int) {
		s, err := Open(root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(tmp)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return len(entries) - 1 // but its own
	}
	if n := reopen(); n != len(begun)+1 {
		t.Errorf("while others have begun, %d are left, not %d", n, len(begun)+1)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	write([]string{filepath.Join(tmp, "123", lockName)}) // the folder of a dead process
	if n := reopen(); n != 1 {
		t.Errorf("%d are left, not the living process's alone", n)
	}
	if _, err := os.Stat(living.Temp()); err != nil {
		t.Error(err)
	}
	if err := living.Close(); err != nil {
		t.Error(err)
	}
}

// What is large stays when a process is told to end, and goes when the store is next
// opened.
func TestLargeLeftovers(t *testing.T) {
	root := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Open(root, Options{Context: ctx})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := s.TempDir("run-")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := s.RemoveTemp(dir); err != nil {
		t.Error(err)
	}
	if err := s.Leave(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) < 1000 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	open(t, root, Options{})
	if _, err := os.Stat(dir); err == nil {
		t.Error("the next process has not removed them")
	}
}
