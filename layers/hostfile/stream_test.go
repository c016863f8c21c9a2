package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// A pipe is read once, whatever its names; a regular file each time.
func TestStreams(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("word"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	regular, pipe := filepath.Join(t.TempDir(), "regular"), "/proc/self/fd/"+strconv.Itoa(int(r.Fd()))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	var s Streams
	read := func(path, want string) {
		t.Helper()
		if got, err := s.Read(t.Context(), path, 10); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	for range 2 {
		read(pipe, "word")
		read(link, "word")
		read(os.DevNull, "")
	}
	var size *SizeError
	if _, err := s.Read(t.Context(), pipe, 3); !errors.As(err, &size) {
		t.Errorf("%v", err)
	}
	if _, err := s.Read(t.Context(), regular, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"a", "b"} {
		if err := os.WriteFile(regular, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		read(regular, text)
	}
	for path, want := range map[string]bool{pipe: true, link: true, regular: false, os.DevNull: false, "/nowhere": false} {
		if ReadOnce(path) != want || SameStream(path, pipe) != want {
			t.Errorf("%s: once %v, same %v, want %v", path, ReadOnce(path), SameStream(path, pipe), want)
		}
	}
}
