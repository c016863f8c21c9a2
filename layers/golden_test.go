package layers

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestGoldenKinds pins the numbers of kinds: they are in encoded trees and in keys.
func TestGoldenKinds(t *testing.T) {
	for kind, want := range map[Kind]uint8{
		File: 0, Dir: 1, Symlink: 2, Hardlink: 3, CharDevice: 4, BlockDevice: 5, Fifo: 6, Whiteout: 7,
	} {
		if uint8(kind) != want {
			t.Errorf("kind %d was %d: stored trees and keys have it", kind, want)
		}
	}
}

// goldenTree has every kind of entry and every flag.
func goldenTree() *Tree {
	return &Tree{Entries: []Entry{
		{Kind: Dir, Mode: 0o755, UID: 7, ModTime: 1700000000e9, Place: At(0)},
		{Path: "block", Kind: BlockDevice, Mode: 0o660, GID: 6, DevMajor: 259, DevMinor: 1 << 19, Place: At(0)},
		{Path: "char", Kind: CharDevice, Mode: 0o666, DevMajor: 1, DevMinor: 3, Place: At(0)},
		{Path: "fifo", Kind: Fifo, Mode: 0o600, ModTime: -1, Place: At(0)},
		{Path: "file", Mode: 0o4755, UID: 4294967294, GID: 65534, Size: 5, ModTime: 1700000000123456789,
			Sum: SumOf(digest.FromString("hello")), Place: At(2048)},
		{Path: "file2", Kind: Hardlink, Link: "file", Place: At(0)},
		{Path: "gone", Kind: Whiteout, Place: At(0)},
		{Path: "implied", Kind: Dir, Mode: 0o755, Opaque: true, Implied: true, Place: At(0)},
		{Path: "link", Kind: Symlink, Mode: 0o777, Target: "../\xff", Place: At(0)},
		{Path: "sparse", Size: 1 << 40, Place: SparseAt(512)},
		{Path: "upper", Size: 1},
		{Path: "xattrs", Xattrs: map[string]string{"security.capability": "\x01\x00", "user.a": ""}, Place: At(0)},
	}}
}

// TestGoldenTree pins the encoded form of trees, which stores keep on disk.
func TestGoldenTree(t *testing.T) {
	want, err := hex.DecodeString(strings.Join(goldenEncoded, ""))
	if err != nil {
		t.Fatal(err)
	}
	tree := goldenTree()
	if got := tree.Encode(); !bytes.Equal(got, want) {
		t.Errorf("encoded as\n%x\nnot\n%x", got, want)
	}
	if got, err := DecodeTree(want); err != nil || !reflect.DeepEqual(got, tree) {
		t.Errorf("decoded as\n%+v, %v\nnot\n%+v", got, err, tree)
	}
}

// goldenEncoded is goldenTree as it is stored, in hexadecimal.
var goldenEncoded = []string{
	"73696e7472656501", // "sintree", version 1
	"0c",               // the number of entries
	"0100ed030e00008080d0e2c6bfce972f00000000",
	"0505626c6f636bb003000c000086048080400000",
	"040463686172b6030000000002060000",
	"06046669666f80030000000100000000",
	"400466696c65ed13fcffffff1ffcff070aaab4aed8c7bfce972f00008020002cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
	"030566696c653200000000000000000466696c65",
	"0704676f6e65000000000000000000",
	"1907696d706c696564ed030000000000000000",
	"02046c696e6bff0300000000000000042e2e2fff",
	"0006737061727365000000808080808040000000830800",
	"00057570706572000000020000000100",
	"2006786174747273000000000000000000021373656375726974792e6361706162696c69747902010006757365722e6100",
	"0d381694e596f62cf8486b86a625257416811cc4e4bb7468513a47bd03776e0b", // SHA-256 of all before
}
