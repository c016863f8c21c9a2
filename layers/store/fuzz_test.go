package store

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// FuzzLayer: whatever lies in a layer's folder, files outside of it are not
// read, and what is read is what the tree says.
func FuzzLayer(f *testing.F) {
	id := layers.ID(digest.FromString("x").Encoded())
	tree := layers.Tree{Entries: []layers.Entry{
		{Path: "a", Kind: layers.File, Size: 5, Place: layers.At(512), Sum: layers.SumOf(digest.FromString("hello"))},
		{Path: "b", Kind: layers.File, Size: 5},
	}}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: 5, Mode: 0o644}); err != nil {
		f.Fatal(err)
	}
	_, _ = w.Write([]byte("hello"))
	f.Add([]byte(`{"layer":{"ID":"`+string(id)+`"},"kind":"gzip","chunks":[{"Tar":0,"Blob":0}]}`), tree.Encode(), buf.Bytes(), false)
	f.Add([]byte(`{"layer":{"ID":"`+string(id)+`","Descriptor":{"digest":"sha256:../../x","size":-1}},"kind":"?"}`), tree.Encode(), []byte{}, true)
	f.Fuzz(func(t *testing.T, payload, tree, data []byte, damaged bool) {
		root := t.TempDir()
		s, err := Open(root, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := os.MkdirAll(s.layerPath(id, dirName), 0o755); err != nil {
			t.Fatal(err)
		}
		file := folder.Seal(payload)
		if damaged {
			file = payload
		}
		for name, data := range map[string][]byte{metaName: file, treeName: tree, tarName: data, filepath.Join(dirName, "b"): []byte("other")} {
			if err := os.WriteFile(s.layerPath(id, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l, err := s.Get(id)
		if err == nil && (damaged || l.ID != id) {
			t.Fatalf("damaged: %v, got %+v", damaged, l)
		}
		l.ID = id
		listed, err := s.Tree(ctx, l)
		if err != nil {
			return
		}
		for _, e := range listed.Entries {
			r, err := s.OpenFile(ctx, l, e)
			if err != nil || e.Size > 1<<20 {
				continue
			}
			content, err := io.ReadAll(io.LimitReader(r, e.Size+1))
			if err == nil && e.Sum.Known() && digest.FromBytes(content) != e.Sum.Digest() {
				t.Errorf("%q: %q", e.Path, content)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
