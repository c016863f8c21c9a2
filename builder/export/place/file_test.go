package place

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// TestStale: what a killed process left beside the output goes, a living one's
// stays, and so does what is somebody else's.
func TestStale(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".out.0123456789ab.tmp", ".out.ab.tmp", ".other.0123456789ab.tmp", ".out.0123456789ab.tmpx"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	living, err := os.Create(filepath.Join(dir, ".out.ba9876543210.tmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer living.Close()
	if err := unix.Flock(int(living.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	err = WriteFile(t.Context(), filepath.Join(dir, "out"), func(w io.Writer) error {
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

// A file keeps its lock until it has its last name, however it came by one.
func TestTempHeld(t *testing.T) {
	dir := t.TempDir()
	place, err := hostfile.Find(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	tmp, err := openTemp(place)
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.close()
	if err := errors.Join(tmp.link(), tmp.file.Close(), removeStale(place)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, tmp.name)); err != nil {
		t.Fatalf("a file that is being written was taken for a leftover: %v", err)
	}
}

func TestUnwritablePlaceHasAWayOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file", "out")
	err := WriteFile(t.Context(), path, func(io.Writer) error { return nil })
	var hinted interface{ HintText() string }
	if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), tempSuffix) || !errors.As(err, &hinted) || hinted.HintText() == "" {
		t.Fatalf("got %v", err)
	}
}

func TestFailedFileOutputLeavesTheOldOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.tar")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(t.Context(), path, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 2<<20))
		if err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("it has %q, %v", data, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
}
