package archive

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
)

// goldenLayer has every kind of entry, and every value of one that the tar or the
// blob treats differently. It is only for TestGoldenLayer: it must never change.
func goldenLayer() []sample {
	const day = 1_700_000_000e9
	far := func(year int) int64 {
		return layers.UnixNano(time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC))
	}
	other := func(e layers.Entry) sample { return sample{Entry: e} }
	plain := func(p string, content string) sample { return fileEntry(p, 0o644, []byte(content)) }
	changed := func(s sample, change func(*layers.Entry)) sample { change(&s.Entry); return s }

	list := []sample{
		other(layers.Entry{Path: "", Kind: layers.Dir, Mode: 0o755, UID: 7, ModTime: day}),
		dirEntry("dir"), dirEntry("dir.sibling"),
		other(layers.Entry{Path: "dir/setgid", Kind: layers.Dir, Mode: 0o2775, GID: 50, ModTime: day}),
		other(layers.Entry{Path: "dir/sticky", Kind: layers.Dir, Mode: 0o1777, ModTime: day}),
		other(layers.Entry{Path: "opaque", Kind: layers.Dir, Mode: 0o755, Opaque: true, ModTime: day}),
		other(layers.Entry{Path: "opaque/implied", Kind: layers.Dir, Mode: 0o755, Opaque: true, Implied: true}),
		other(layers.Entry{Path: "implied", Kind: layers.Dir, Mode: 0o755, Implied: true}),
		other(layers.Entry{Path: "implied/gone", Kind: layers.Whiteout, ModTime: day}),
		other(layers.Entry{Path: "gone", Kind: layers.Whiteout}),

		plain("file", "content"), plain("empty", ""),
		plain("name/not-utf8-\xff\xfe", "x"), plain("name/ünïcödé", "y"), plain("name/new\nline", "z"),
		plain("name/"+strings.Repeat("n", 255), "long name"),
		plain(strings.Repeat("long-directory/", 20)+"file", "long path"),
		fileEntry("bin/setuid", 0o4755, []byte("#!")),
		other(layers.Entry{Path: "bin/z-hardlink", Kind: layers.Hardlink, Link: "bin/setuid"}),
		other(layers.Entry{Path: "bin/symlink", Kind: layers.Symlink, Mode: 0o777, Target: "../usr/bin/\xff", ModTime: day}),
		other(layers.Entry{Path: "bin/symlink-far", Kind: layers.Symlink, Mode: 0o777, Target: strings.Repeat("/target", 40), ModTime: day}),
		other(layers.Entry{Path: "bin/symlink-hardlink", Kind: layers.Hardlink, Link: "bin/symlink"}),

		other(layers.Entry{Path: "dev/char", Kind: layers.CharDevice, Mode: 0o666, DevMajor: 1, DevMinor: 3, ModTime: day}),
		other(layers.Entry{Path: "dev/block", Kind: layers.BlockDevice, Mode: 0o660, GID: 6, DevMajor: 259, DevMinor: 1 << 19, ModTime: day}),
		other(layers.Entry{Path: "dev/fifo", Kind: layers.Fifo, Mode: 0o600, ModTime: day}),

		changed(plain("owner/octal", "o"), func(e *layers.Entry) { e.UID, e.GID = 2097151, 65534 }),
		changed(plain("owner/pax", "p"), func(e *layers.Entry) { e.UID, e.GID = 2097152, 4294967294 }),
		changed(plain("time/1677", "1"), func(e *layers.Entry) { e.ModTime = far(1500) }),
		changed(plain("time/before-1970", "2"), func(e *layers.Entry) { e.ModTime = -1 }),
		changed(plain("time/2242-octal", "3"), func(e *layers.Entry) { e.ModTime = (1<<33 - 1) * 1e9 }),
		changed(plain("time/2242-pax", "4"), func(e *layers.Entry) { e.ModTime = (1 << 33) * 1e9 }),
		changed(plain("time/2262", "5"), func(e *layers.Entry) { e.ModTime = far(9999) }),
		changed(plain("time/fraction", "6"), func(e *layers.Entry) { e.ModTime = day + 999_999_999 }),
		changed(plain("time/made", "7"), func(e *layers.Entry) { e.ModTime = layers.MadeTime }),
		changed(plain("xattr/capability", "c"), func(e *layers.Entry) {
			e.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
		}),
		changed(plain("xattr/user", "u"), func(e *layers.Entry) {
			e.Xattrs = map[string]string{"user.empty": "", "user.a=b%": "\x00\n=", "user.plain": "value"}
		}),

		// Where chunks end: in a large file and after it, when they are full, and before
		// some paths.
		fileEntry("large/pieces", 0o644, noise(1, 9<<20+17)), fileEntry("large/exact", 0o644, noise(2, 4<<20)),
	}
	for i := range 24 {
		list = append(list, fileEntry("many/f"+string(rune('A'+i)), 0o644, noise(uint64(i), 270_000)))
	}
	list, _ = ordered(list)
	return list
}

// TestGoldenLayer pins the bytes of layers: a change of the tar or of the chunks makes
// every cached layer another one, and every image. A change of the compressed digests
// alone comes with another version of the compressor, and makes pushes send again what
// registries have.
func TestGoldenLayer(t *testing.T) {
	const (
		diffID      = "sha256:a3c494b7139229d45be887861472a9b8e4489fde395c96a9a229061344e5474e"
		clampedDiff = "sha256:a0d5c4631f27ea72935cbcab7056ee96c8224fd53b6cb2bf550587294abd1ff4"
		size        = 20175360
		treeDigest  = "sha256:7761c23b0eb0dc4c3d042d0b45e7a7957467869d3ab7e75df8c2d5baad856f39"
		readDigest  = "sha256:304e975fe2317991160d73d54bfb19d8600b99d40f86cda67d743cfd2691acbf"
	)
	list := goldenLayer()
	plain, tree := writeTar(t, list)
	checkGolden(t, "diff ID", digest.FromBytes(plain), diffID)
	checkGolden(t, "encoded tree", digest.FromBytes(tree.Encode()), treeDigest)

	again, readDiffID, n, err := Read(context.Background(), bytes.NewReader(plain))
	if err != nil || n != size || readDiffID != diffID {
		t.Fatalf("Read: %s, %d bytes, %v", readDiffID, n, err)
	}
	checkGolden(t, "tree that was read from the tar", digest.FromBytes(again.Encode()), readDigest)

	var clamped bytes.Buffer
	w := NewWriter(&clamped, &layers.Epoch{Seconds: 1_650_000_000})
	addAll(t, w, list)
	d, _, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "diff ID with an epoch", d, clampedDiff)

	for _, c := range []struct {
		compression string
		digest      digest.Digest
		size        int64
		chunks      int
	}{
		{"uncompressed", diffID, size, 0},
		{"gzip", "sha256:f74256dfacdb4f06c51f601fc38f94039b35825c5a69893cee371e3045d5b02d", 17339122, 12},
		{"gzip:9", "sha256:e44d0ed94c1594647e3077bcc945f1a3d8991ff9948a379f2516fb6573cfbfc0", 12697134, 12},
		{"zstd", "sha256:0b7e1b2bcfa60817cd2c9e94ce6d492998721207dd7e792e0f677730e20c10bd", 20030771, 12},
		{"zstd:7", "sha256:58da68132480ea1654c77c5abfe43dde2ff08de26bf1016bebda0789d044ab80", 12610771, 12},
	} {
		t.Run(c.compression, func(t *testing.T) {
			compression, err := ParseCompression(c.compression)
			if err != nil {
				t.Fatal(err)
			}
			p := NewPacker(new(bytes.Buffer), compression, nil, nil)
			addAll(t, p, list)
			packed, err := p.Close()
			if err != nil {
				t.Fatal(err)
			}
			checkGolden(t, "diff ID", packed.DiffID, diffID)
			checkGolden(t, "blob", packed.Digest, c.digest)
			if packed.Size != c.size || len(packed.Chunks) != c.chunks {
				t.Errorf("the blob has %d bytes and %d chunks, not %d and %d", packed.Size, len(packed.Chunks), c.size, c.chunks)
			}
		})
	}
}

func checkGolden(t *testing.T, what string, got, want digest.Digest) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %s, not %s", what, got, want)
	}
}
