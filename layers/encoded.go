package layers

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sort"
)

// EncodedTree is a tree that is encoded as its entries are appended. It takes less
// memory than a Tree.
type EncodedTree struct {
	blocks []block
	last   string
	count  int
}

// block is up to entriesPerBlock entries one after the other, with where each begins.
// All blocks but the last are full.
type block struct {
	data []byte
	at   []uint32
}

const entriesPerBlock = 256

// Append adds an entry after all others in the order of ComparePaths.
func (t *EncodedTree) Append(e Entry) {
	if t.count%entriesPerBlock == 0 {
		if n := len(t.blocks); n > 0 {
			t.blocks[n-1].data = slices.Clone(t.blocks[n-1].data) // without room to grow
		}
		t.blocks = append(t.blocks, block{at: make([]uint32, 0, entriesPerBlock)})
	}
	b := &t.blocks[len(t.blocks)-1]
	b.at = append(b.at, uint32(len(b.data)))
	b.data = appendEntry(b.data, &e)
	t.last = e.Path
	t.count++
}

// Len returns the number of entries.
func (t *EncodedTree) Len() int { return t.count }

// Last returns the path of the last entry, "" when there is none.
func (t *EncodedTree) Last() string { return t.last }

// entry returns a decoder of the entry with index i.
func (t *EncodedTree) entry(i int) decoder {
	b := &t.blocks[i/entriesPerBlock]
	i %= entriesPerBlock
	end := len(b.data)
	if i+1 < len(b.at) {
		end = int(b.at[i+1])
	}
	return decoder{s: b.data[b.at[i]:end]}
}

// Find returns the entry at path, exactly as it is listed.
func (t *EncodedTree) Find(path string) (e Entry, ok bool) {
	i, ok := sort.Find(t.count, func(i int) int {
		d := t.entry(i)
		d.bytes(1)
		return ComparePaths(path, string(d.bytes(d.uvarint())))
	})
	if ok {
		d := t.entry(i)
		d.entry(&e)
	}
	return e, ok
}

// Decode returns the entries as a Tree.
func (t *EncodedTree) Decode() *Tree {
	tree := &Tree{}
	if t.count > 0 {
		tree.Entries = make([]Entry, t.count)
	}
	var d decoder
	for i := range tree.Entries {
		if i%entriesPerBlock == 0 {
			d.s = t.blocks[i/entriesPerBlock].data
		}
		d.entry(&tree.Entries[i])
	}
	return tree
}

// Encode returns what Encode of the Tree does.
func (t *EncodedTree) Encode() []byte {
	size := len(treeMagic) + binary.MaxVarintLen64 + sha256.Size
	for _, b := range t.blocks {
		size += len(b.data)
	}
	all := append(make([]byte, 0, size), treeMagic...)
	all = binary.AppendUvarint(all, uint64(t.count))
	for _, b := range t.blocks {
		all = append(all, b.data...)
	}
	sum := sha256.Sum256(all)
	return append(all, sum[:]...)
}
