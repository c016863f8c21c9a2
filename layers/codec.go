package layers

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The encoded form of a tree: the magic (with the version as its last byte),
// the number of entries, the entries, and the sha256 of all of that.
// Numbers are varints (signed ones zigzag), strings have their length in
// front. Paths are not compressed, so that decoding cannot yield much more than it
// was given.
const treeMagic = "sintree\x01"

// minEntryLen is the least that one encoded entry takes.
const minEntryLen = 10

// The bits above the kind in an entry's first byte.
const (
	flagImplied = 1 << (iota + 3)
	flagOpaque
	flagXattrs
	flagSHA256 // 32 raw bytes
	flagDigest // any other digest, as a string: no longer written, and read as unknown
)

// ErrTreeData is what decoding yields that is torn, altered, or no tree at all.
var ErrTreeData = errors.New("not a valid encoded tree")

// Encode returns the compact form of t that DecodeTree reads. It ends with a
// checksum, so a torn file is found out.
func (t *Tree) Encode() []byte {
	size := len(treeMagic) + binary.MaxVarintLen64 + sha256.Size
	for i := range t.Entries {
		size += len(t.Entries[i].Path) + len(t.Entries[i].Target) + len(t.Entries[i].Link) + 72
	}
	b := make([]byte, 0, size)
	b = append(b, treeMagic...)
	b = binary.AppendUvarint(b, uint64(len(t.Entries)))
	for i := range t.Entries {
		b = appendEntry(b, &t.Entries[i])
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func appendEntry(b []byte, e *Entry) []byte {
	first := byte(e.Kind)
	if e.Opaque {
		first |= flagOpaque
	}
	if e.Implied {
		first |= flagImplied
	}
	if len(e.Xattrs) > 0 {
		first |= flagXattrs
	}
	if e.Sum.Known() {
		first |= flagSHA256
	}
	b = append(b, first)
	b = appendString(b, e.Path)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	for _, n := range [...]int64{int64(e.UID), int64(e.GID), e.Size, e.ModTime, int64(e.DevMajor), int64(e.DevMinor), int64(e.Place) - 1} {
		b = binary.AppendVarint(b, n)
	}
	if e.Kind == Symlink {
		b = appendString(b, e.Target)
	} else {
		b = appendString(b, e.Link)
	}
	if len(e.Xattrs) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			b = appendString(appendString(b, name), e.Xattrs[name])
		}
	}
	if e.Sum.Known() {
		b = append(b, e.Sum[:]...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// DecodeTree reads what Encode wrote. It refuses anything that is damaged or
// that Validate refuses, and its use of memory is bounded by a small
// multiple of the data's length.
func DecodeTree(data []byte) (*Tree, error) {
	body := len(data) - sha256.Size
	if body < len(treeMagic) || string(data[:len(treeMagic)]) != treeMagic {
		return nil, ErrTreeData
	}
	if sum := sha256.Sum256(data[:body]); !bytes.Equal(sum[:], data[body:]) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrTreeData)
	}
	d := decoder{s: data[len(treeMagic):body]}
	count := d.uvarint()
	if count > uint64(len(d.s)/minEntryLen) {
		return nil, fmt.Errorf("%w: too many entries", ErrTreeData)
	}
	t := &Tree{}
	if count > 0 {
		t.Entries = make([]Entry, count)
	}
	for i := range t.Entries {
		d.entry(&t.Entries[i])
	}
	if d.bad || len(d.s) > 0 {
		return nil, ErrTreeData
	}
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTreeData, err)
	}
	return t, nil
}

// decoder cuts values off the front of s; after the first that does not fit,
// bad is set and all are zero.
type decoder struct {
	s   []byte
	bad bool
	// text is where the strings are. One for many takes less than one for each.
	text strings.Builder
}

// textRoom is how many bytes of strings are kept together.
const textRoom = 64 << 10

func (d *decoder) entry(e *Entry) {
	first := d.bytes(1)
	if d.bad {
		return
	}
	flags := first[0]
	e.Kind = Kind(flags & (flagImplied - 1))
	e.Implied = flags&flagImplied != 0
	e.Opaque = flags&flagOpaque != 0
	e.Path = d.string()
	e.Mode = uint32(d.uvarint())
	e.UID, e.GID = int(d.varint()), int(d.varint())
	e.Size, e.ModTime = d.varint(), d.varint()
	e.DevMajor, e.DevMinor = uint32(d.varint()), uint32(d.varint())
	e.Place = Place(d.varint() + 1)
	if e.Kind == Symlink {
		e.Target = d.string()
	} else {
		e.Link = d.string()
	}
	if flags&flagXattrs != 0 {
		d.xattrs(e)
	}
	switch {
	case flags&flagSHA256 != 0:
		copy(e.Sum[:], d.bytes(sha256.Size))
	case flags&flagDigest != 0:
		d.bytes(d.uvarint())
	}
}

func (d *decoder) xattrs(e *Entry) {
	count := d.uvarint()
	if count == 0 || count > uint64(len(d.s)/2) {
		d.bad = true
		return
	}
	e.Xattrs = make(map[string]string)
	for range count {
		name := d.string()
		e.Xattrs[name] = d.string()
	}
}

func (d *decoder) bytes(n uint64) []byte {
	if d.bad || n > uint64(len(d.s)) {
		d.bad, d.s = true, nil
		return nil
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

func (d *decoder) string() string {
	b := d.bytes(d.uvarint())
	if len(b) > d.text.Cap()-d.text.Len() {
		d.text = strings.Builder{}
		d.text.Grow(max(len(b), min(textRoom, len(d.s))))
	}
	begin := d.text.Len()
	d.text.Write(b)
	return d.text.String()[begin:]
}

func (d *decoder) uvarint() uint64 {
	var n uint64
	for i := 0; i < len(d.s) && i < binary.MaxVarintLen64; i++ {
		c := d.s[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.s = d.s[i+1:]
			return n
		}
	}
	d.bad, d.s = true, nil
	return 0
}

func (d *decoder) varint() int64 {
	n := d.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}
