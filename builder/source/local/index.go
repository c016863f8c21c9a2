package local

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
)

// The index of a directory is a flat file that is mapped and searched as it
// lies there: loading it costs the same however long it is.
//
//	magic                    8 bytes
//	count of records         8 bytes
//	count records of         recordSize bytes, sorted by path
//	    where the path begins (in the whole file), its length
//	    size, mtime, ctime, inode, device of the file
//	    sha256 of its content
//	    crc32c of the record up to here, and of the path
//	paths, one after another
//
// All numbers are little-endian. Every record has its own checksum: whatever a
// torn file holds is not believed.
const (
	indexMagic = "sntridx1"
	headerSize = 16
	recordSize = 4 + 4 + 5*8 + 32 + 4 + 4
	sumOffset  = 4 + 4 + 5*8 + 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// index is a parsed index file; the nil index is empty.
type index struct {
	data   []byte
	mapped bool
	count  int
}

// loadIndex maps an index file. One that is missing or of no use is empty:
// all that it could have told is found out again.
func loadIndex(file string) *index {
	f, err := os.Open(file)
	if err != nil {
		return &index{}
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() < headerSize || fi.Size() > 1<<32-1 {
		return &index{}
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return &index{}
	}
	x := parseIndex(data)
	if x.data == nil {
		_ = unix.Munmap(data)
		return x
	}
	x.mapped = true
	return x
}

func (x *index) close() {
	if x.mapped {
		_ = unix.Munmap(x.data)
	}
	*x = index{}
}

// parseIndex reads the header of an index. Records are looked at when they are
// asked for.
func parseIndex(data []byte) *index {
	if len(data) < headerSize || string(data[:8]) != indexMagic {
		return &index{}
	}
	n := binary.LittleEndian.Uint64(data[8:])
	if n > uint64(len(data)-headerSize)/recordSize {
		return &index{}
	}
	return &index{data: data, count: int(n)}
}

// raw returns the bytes of record i.
func (x *index) raw(i int) []byte {
	at := headerSize + i*recordSize
	return x.data[at : at+recordSize]
}

// path returns the path of record i; nil when the record makes no sense.
func (x *index) path(i int) []byte {
	r := x.raw(i)
	at, n := uint64(binary.LittleEndian.Uint32(r)), uint64(binary.LittleEndian.Uint32(r[4:]))
	if at+n > uint64(len(x.data)) {
		return nil
	}
	return x.data[at : at+n]
}

// record returns record i, if it is whole.
func (x *index) record(i int) (record, bool) {
	r, p := x.raw(i), x.path(i)
	if recordSum(r, p) != binary.LittleEndian.Uint32(r[sumOffset:]) {
		return record{}, false
	}
	n := func(k int) uint64 { return binary.LittleEndian.Uint64(r[8+8*k:]) }
	rec := record{stamp: stamp{
		size: int64(n(0)), mtime: int64(n(1)), ctime: int64(n(2)), ino: n(3), dev: n(4),
	}}
	copy(rec.digest[:], r[48:])
	return rec, true
}

func recordSum(r, path []byte) uint32 {
	return crc32.Update(crc32.Checksum(r[:sumOffset], castagnoli), castagnoli, path)
}

// get returns what is recorded of a path.
func (x *index) get(name string) (record, bool) {
	if x == nil {
		return record{}, false
	}
	want := []byte(name)
	i, found := sort.Find(x.count, func(i int) int { return bytes.Compare(want, x.path(i)) })
	if !found {
		return record{}, false
	}
	return x.record(i)
}

// encodeIndex writes records as an index file.
func encodeIndex(records map[string]record) []byte {
	paths := make([]string, 0, len(records))
	size := headerSize + recordSize*len(records)
	for p := range records {
		paths = append(paths, p)
		size += len(p)
	}
	slices.Sort(paths)
	b := bytes.NewBuffer(make([]byte, 0, size))
	b.WriteString(indexMagic)
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(paths))))
	at := headerSize + recordSize*len(records)
	var r [recordSize]byte
	for _, p := range paths {
		rec := records[p]
		le := binary.LittleEndian
		le.PutUint32(r[0:], uint32(at))
		le.PutUint32(r[4:], uint32(len(p)))
		for k, v := range []uint64{uint64(rec.stamp.size), uint64(rec.stamp.mtime), uint64(rec.stamp.ctime), rec.stamp.ino, rec.stamp.dev} {
			le.PutUint64(r[8+8*k:], v)
		}
		copy(r[48:], rec.digest[:])
		le.PutUint32(r[sumOffset:], recordSum(r[:], []byte(p)))
		b.Write(r[:])
		at += len(p)
	}
	for _, p := range paths {
		b.WriteString(p)
	}
	return b.Bytes()
}

// saveIndex writes the index, if there is anything new to be written.
func (l *Directory) saveIndex() error {
	if l.index == nil || !l.learned() {
		return nil
	}
	records := map[string]record{}
	for i := range l.index.count {
		p := string(l.index.path(i))
		if r, ok := l.index.record(i); ok && !l.vanished(p) {
			records[p] = r
		}
	}
	for p, r := range l.hashed() {
		if l.settled(r.stamp) {
			records[p] = r
		} else {
			// It may yet change without a sign: look again next time.
			delete(records, p)
		}
	}
	return folder.WriteFile(filepath.Join(filepath.Dir(l.indexPath), ".index-"), l.indexPath, encodeIndex(records), 0o600)
}

// learned reports whether something was hashed that the index should tell.
func (l *Directory) learned() bool {
	for p, r := range l.hashed() {
		if known, ok := l.index.get(p); l.settled(r.stamp) && (!ok || known != r) {
			return true
		}
	}
	return false
}

// hashed returns the files that were read.
func (l *Directory) hashed() iter.Seq2[string, record] {
	return func(yield func(string, record) bool) {
		for p, s := range l.seen {
			if s != nil && s.sum != nil && !yield(p, record{stamp: s.stamp, digest: *s.sum}) {
				return
			}
		}
	}
}

// vanished reports whether a path is known not to exist any more: a directory
// above it was listed and does not hold what leads to it.
func (l *Directory) vanished(p string) bool {
	if s, known := l.seen[p]; known {
		return s == nil
	}
	for child, dir := p, layers.Parent(p); ; child, dir = dir, layers.Parent(dir) {
		if li := l.lists[dir]; li != nil && li.err == nil {
			base := strings.TrimPrefix(strings.TrimPrefix(child, dir), "/")
			_, found := slices.BinarySearchFunc(li.names, base, func(n name, b string) int { return strings.Compare(n.base, b) })
			return !found
		}
		if dir == "" {
			return false
		}
	}
}
