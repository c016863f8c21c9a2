package layers

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers/archive/archivetest"
)

// TestEncodedTree: an encoded tree is the same as one whose entries are in a list.
func TestEncodedTree(t *testing.T) {
	trees := []*Tree{{}, sampleTree()}
	for _, n := range []int{entriesPerBlock - 1, entriesPerBlock, entriesPerBlock + 1, 3 * entriesPerBlock} {
		trees = append(trees, wideTree(n))
	}
	for _, want := range trees {
		got := encoded(want)
		if got.Len() != len(want.Entries) || !bytes.Equal(got.Encode(), want.Encode()) || !reflect.DeepEqual(got.Decode(), want) {
			t.Errorf("%d entries are not the same", len(want.Entries))
		}
		for _, e := range want.Entries {
			if found, ok := got.Find(e.Path); !ok || !reflect.DeepEqual(found, e) {
				t.Errorf("%q: %+v, %v", e.Path, found, ok)
			}
			if _, ok := got.Find(e.Path + "\x00"); ok || got.Last() != want.Entries[len(want.Entries)-1].Path {
				t.Errorf("%q: found another", e.Path)
			}
		}
	}
}

// TestRoomOfEncodedTree: what is being written takes little memory for each file.
func TestRoomOfEncodedTree(t *testing.T) {
	const files, most = 20_000, 110
	from := wideTree(files)
	archivetest.CheckRoom(t, files, most, func() any { return encoded(from) })
}

func encoded(from *Tree) *EncodedTree {
	t := &EncodedTree{}
	for _, e := range from.Entries {
		t.Append(e)
	}
	return t
}

func wideTree(files int) *Tree {
	t := &Tree{}
	for i := range files {
		p := fmt.Sprintf("a/file-with-a-rather-long-name-%06d", i)
		t.Entries = append(t.Entries, Entry{
			Path: p, Mode: 0o644, Size: 4000, ModTime: 1700000000e9, Sum: SumOf(digest.FromString(p)), Place: At(int64(i) * 4608),
		})
	}
	return t
}
