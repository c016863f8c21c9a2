package layers

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers/archive/archivetest"
)

func sampleTree() *Tree {
	t := &Tree{Entries: []Entry{
		{Kind: Dir, Mode: 0o755},
		{Path: "bin", Kind: Dir, Opaque: true, Mode: 0o1777, UID: -1, GID: 1 << 31, ModTime: -5, Place: At(512)},
		{Path: "bin/sh", Size: 1 << 40, Mode: 0o4755, ModTime: 1700000000123456789, Place: At(1024),
			Sum: SumOf(digest.FromString("x")), Xattrs: map[string]string{"security.capability": "\x00\x01", "user.a": ""}},
		{Path: "bin/sh2", Kind: Hardlink, Link: "bin/sh"},
		{Path: "d", Kind: Dir, Implied: true, Opaque: true, Mode: 0o755},
		{Path: "dev", Kind: CharDevice, DevMajor: 5, DevMinor: 1 << 20},
		{Path: "gone", Kind: Whiteout},
		{Path: "l", Kind: Symlink, Target: "\xff/.."},
		{Path: "odd", Sum: SumOf(digest.FromString("y")), Place: SparseAt(698)},
	}}
	return t
}

func TestTreeCodec(t *testing.T) {
	for _, want := range []*Tree{{}, sampleTree()} {
		data := want.Encode()
		got, err := DecodeTree(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if !bytes.Equal(got.Encode(), data) {
			t.Error("encoding again gives other bytes")
		}
		for i := range data {
			bad := bytes.Clone(data)
			bad[i] ^= 0x10
			if _, err := DecodeTree(bad); !errors.Is(err, ErrTreeData) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			if _, err := DecodeTree(data[:i]); !errors.Is(err, ErrTreeData) {
				t.Fatalf("cut at %d: %v", i, err)
			}
		}
	}
}

func TestDecodeTreeRefuses(t *testing.T) {
	for name, entries := range map[string][]Entry{
		"order":         {{Path: "b"}, {Path: "a"}},
		"twice":         {{Path: "a"}, {Path: "a"}},
		"climbs out":    {{Path: "../a"}},
		"absolute":      {{Path: "/a"}},
		"not clean":     {{Path: "a/./b"}},
		"NUL":           {{Path: "a\x00b"}},
		"below symlink": {{Path: "a", Kind: Symlink, Target: "/etc"}, {Path: "a/b"}},
		"root file":     {{Path: "", Kind: File}},
		"hardlink":      {{Path: "a", Kind: Hardlink, Link: "../../etc/passwd"}},
		"hardlink dir":  {{Path: "a", Kind: Dir}, {Path: "b", Kind: Hardlink, Link: "a"}},
		"size":          {{Path: "a", Size: -1}},
		"kind":          {{Path: "a", Kind: 12}},
	} {
		if tr, err := DecodeTree((&Tree{Entries: entries}).Encode()); !errors.Is(err, ErrTreeData) {
			t.Errorf("%s: %+v, %v", name, tr, err)
		}
	}
}

func TestIsClean(t *testing.T) {
	for p, want := range map[string]bool{
		"": true, "a": true, "a/b": true, "...": true, "a/..b": true, "\xff": true,
		".": false, "..": false, "/": false, "/a": false, "a/": false, "a//b": false, "a/./b": false, "a/..": false, "../a": false, "a\x00": false,
	} {
		if IsClean(p) != want {
			t.Errorf("IsClean(%q) is %v", p, !want)
		}
	}
}

// FuzzDecodeTree gives the decoder bodies with a valid checksum, so that the parser
// behind it is tested. A tree that is encoded entry by entry must be the same.
func FuzzDecodeTree(f *testing.F) {
	data := sampleTree().Encode()
	f.Add(data[len(treeMagic) : len(data)-sha256.Size])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, body []byte) {
		data := append([]byte(treeMagic), body...)
		sum := sha256.Sum256(data)
		got, err := DecodeTree(append(data, sum[:]...))
		if err != nil {
			return
		}
		again, err := DecodeTree(got.Encode())
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v\nbecame %+v, %v", got, again, err)
		}
		grown := encoded(got)
		if !bytes.Equal(grown.Encode(), got.Encode()) || !reflect.DeepEqual(grown.Decode(), got) {
			t.Fatalf("%+v\nbecame %+v entry by entry", got, grown.Decode())
		}
		for _, e := range got.Entries {
			if found, ok := grown.Find(e.Path); !ok || !reflect.DeepEqual(found, e) {
				t.Fatalf("%q: found %+v, %v", e.Path, found, ok)
			}
		}
	})
}

func BenchmarkTreeCodec(b *testing.B) {
	t := &Tree{}
	for i := range 10_000 {
		t.Entries = append(t.Entries, Entry{
			Path: fmt.Sprintf("usr/lib/python3/dist-packages/package-%05d", i), Mode: 0o644, Size: 4000,
			ModTime: 1700000000e9, Sum: SumOf(digest.FromString(fmt.Sprint(i))), Place: At(int64(i) * 4608),
		})
	}
	data := t.Encode()
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			t.Encode()
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeTree(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestRoomOfDecodedTree: a tree takes little memory for each of its files.
func TestRoomOfDecodedTree(t *testing.T) {
	const files, most = 20_000, 190
	list := wideTree(files)
	data := list.Encode()
	archivetest.CheckRoom(t, files, most, func() any {
		tree, err := DecodeTree(data)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	})
	runtime.KeepAlive(list)
}

// TestDecodeOtherDigest: a digest that is not a SHA-256 is unknown.
func TestDecodeOtherDigest(t *testing.T) {
	body := (&Tree{Entries: []Entry{{Path: "a"}}}).Encode()
	body = body[:len(body)-sha256.Size]
	body[len(treeMagic)+1] |= flagDigest
	body = appendString(body, "sha512:00")
	sum := sha256.Sum256(body)
	tree, err := DecodeTree(append(body, sum[:]...))
	if err != nil || len(tree.Entries) != 1 || tree.Entries[0].Path != "a" || tree.Entries[0].Sum.Known() {
		t.Errorf("%+v, %v", tree, err)
	}
}
