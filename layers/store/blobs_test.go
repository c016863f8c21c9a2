package store

import (
	"bytes"
	"os"
	"testing"
)

// What is pulled again replaces what was damaged, however large it is.
func TestAddReplacesDamage(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int{10, smallBlob + 10} {
		data := bytes.Repeat([]byte("x"), size)
		desc, err := s.Blobs.Add(t.Context(), data, "application/json")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.blobPath(desc.Digest), bytes.Repeat([]byte("y"), size), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Blobs.Add(t.Context(), data, "application/json"); err != nil {
			t.Fatal(err)
		}
		if ok, err := s.Blobs.Intact(t.Context(), desc); err != nil || !ok {
			t.Errorf("%d bytes: it is still damaged, %v", size, err)
		}
	}
}
