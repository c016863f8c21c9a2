package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive/archivetest"
)

// FuzzReadUnpack: what a foreign layer says is done in its directory, and
// nowhere else.
func FuzzReadUnpack(f *testing.F) {
	data, _ := writeTar(f, small()[:20])
	f.Add(data)
	f.Add(foreign(f, symlinkHeader("up", "../.."), tar.Header{Name: "up/outside"}, linkHeader("again", "up/outside")))
	f.Add(foreign(f, symlinkHeader("a", "/"), symlinkHeader("a/b", "a"), tar.Header{Name: "b/b/outside"}, tar.Header{Name: ".wh.b"}))
	f.Add(foreign(f, tar.Header{Name: "dev", Typeflag: tar.TypeChar}, dirHeader("dev"), tar.Header{Name: "dev/.wh..wh..opq"}))
	f.Add(foreign(f, tar.Header{Name: "s", Mode: 0o6777, Uid: 1 << 20, Gid: -1}, linkHeader("t", "s"), dirHeader("s")))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = archivetest.RepairAll(data)
		tree, _, _, err := Read(context.Background(), bytes.NewReader(data))
		if err != nil || len(tree.Entries) > 200 {
			return
		}
		for _, e := range tree.Entries {
			if e.Size > 1<<20 {
				return
			}
		}
		top := t.TempDir()
		dir := filepath.Join(top, "dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		// Whether it can be done depends on the machine.
		err = Unpack(context.Background(), tree, opener(t, data), dir, UnpackOptions{UserXattr: os.Geteuid() != 0, SingleUser: os.Geteuid() != 0})
		if there, readErr := os.ReadDir(top); readErr != nil || len(there) != 1 {
			t.Fatalf("beside the directory there is %v, %v", there, readErr)
		}
		if err != nil {
			return
		}
		view := layers.NewView([]*layers.Tree{tree})
		err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(dir, p)
			if err != nil || rel == "." {
				return err
			}
			if _, deleted := tree.Find(rel); deleted {
				return nil
			}
			if e, _, ok := view.Lookup(rel); !ok || e.Kind != layers.Dir {
				t.Errorf("%q was made", rel)
			}
			return nil
		})
		if err != nil && !os.IsPermission(err) {
			t.Fatal(err)
		}
	})
}

// FuzzChunks: whatever list of chunks comes with whatever blob, reading at
// random yields no more than was asked for, and ends.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("plain"), byte(0), []byte{0, 0, 1, 1}, int64(2), int64(2))
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, byte(1), []byte{0, 0}, int64(0), int64(-1))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 4, 0, 1, 0, 0, 0x99, 0xe9, 0xd8, 0x51}, byte(2), []byte{0, 0, 5, 9}, int64(6), int64(1))
	kinds := []string{Uncompressed, Gzip, Zstd}
	f.Fuzz(func(t *testing.T, blob []byte, kind byte, numbers []byte, offset, n int64) {
		var chunks []Chunk
		for len(numbers) > 0 && len(chunks) < 100 {
			var c Chunk
			for _, to := range []*int64{&c.Tar, &c.Blob} {
				v, used := binary.Varint(numbers)
				if used <= 0 {
					v, used = 0, len(numbers)
				}
				*to, numbers = v, numbers[used:]
			}
			chunks = append(chunks, c)
		}
		r, err := OpenChunked(bytes.NewReader(blob), int64(len(blob)), kinds[int(kind)%len(kinds)], chunks)
		if err != nil {
			return
		}
		defer r.Close()
		for _, e := range []layers.Entry{{Kind: layers.File, Place: layers.At(offset), Size: n}, {Kind: layers.File, Place: layers.SparseAt(offset), Size: n}} {
			if e.Size < 0 {
				continue // a tree has none
			}
			rc, err := r.Content(e)
			if err != nil {
				continue
			}
			got, err := io.Copy(io.Discard, io.LimitReader(rc, 1<<22))
			if err == nil && got < min(n, 1<<22) || !e.Place.Sparse() && got > n {
				t.Errorf("%d of %d bytes, %v", got, n, err)
			}
			if err := rc.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
