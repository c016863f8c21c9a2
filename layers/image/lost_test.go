package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// While another process repairs the list, whoever reads it knows that names are lost.
func TestLostWhileAnotherRepairs(t *testing.T) {
	s := Open(t.TempDir(), nil)
	desc, err := putBlob(s, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`), "application/vnd.oci.image.manifest.v1+json")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "docker.io/library/a:latest", desc); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"index.json", copyName} {
		if err := os.WriteFile(filepath.Join(s.root, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := hostfile.Lock(t.Context(), s.lockPath(), "", hostfile.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Ref != "" {
		t.Fatal(list, err)
	}
	if !s.Lost() {
		t.Error("names are lost, and nobody says so")
	}
}
