package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/layers/archive/archivetest"
	"github.com/sinter-build/sinter/layers/store"
)

// FuzzUnpackContext: a context that comes as an archive stays in its directory.
func FuzzUnpackContext(f *testing.F) {
	add := func(headers ...tar.Header) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, h := range headers {
			if h.Size = 0; h.Typeflag == tar.TypeReg {
				h.Size = 1
			}
			h.Mode = 0o755
			if err := w.WriteHeader(&h); err != nil {
				f.Fatal(err)
			}
			if h.Size > 0 {
				_, _ = w.Write([]byte("x"))
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	const file, dir, sym, link = tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink
	add(tar.Header{Name: "../outside", Typeflag: file}, tar.Header{Name: "/abs", Typeflag: file})
	add(tar.Header{Name: "l", Typeflag: sym, Linkname: "../.."}, tar.Header{Name: "l/outside", Typeflag: file})
	add(tar.Header{Name: "d", Typeflag: dir}, tar.Header{Name: "d/l", Typeflag: sym, Linkname: "/"}, tar.Header{Name: "h", Typeflag: link, Linkname: "d/l/etc/passwd"})
	add(tar.Header{Name: ".wh.a", Typeflag: file}, tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3})
	s, err := store.Open(f.TempDir(), store.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "context")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = UnpackContext(context.Background(), s, bytes.NewReader(archivetest.RepairAll(data)), dir)
		if there, err := os.ReadDir(top); err != nil || len(there) != 1 {
			t.Errorf("beside the context there is %v, %v", there, err)
		}
		kept, err := os.ReadDir(filepath.Join(s.Root(), "layers"))
		if err != nil || len(kept) > 0 {
			t.Errorf("the store keeps %v, %v", kept, err)
		}
	})
}
