package archive

import (
	"archive/tar"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Lengths of fields of a tar header, and the longest names that USTAR can hold and
// that an extended header can: archive/tar limits its size to 1 MiB.
const (
	nameField    = 100
	maxUSTARName = 155 + 1 + nameField
	maxPAXName   = 1<<20 - len("1048576 path=\n")
)

// writeHeader writes h with the same bytes as tar.Writer, which is slow for long names:
// it composes the reason why other formats cannot hold them.
func (s *stream) writeHeader(h *tar.Header) error {
	if !onlyNameIsLong(h) {
		return s.tw.WriteHeader(h)
	}
	if err := s.tw.Flush(); err != nil {
		return err
	}
	s.head = appendPath(s.head[:0], h.Name)
	if _, err := s.out.Write(s.head); err != nil {
		return err
	}
	short := *h
	short.Name = cutName(h.Name)
	return s.tw.WriteHeader(&short)
}

// onlyNameIsLong reports whether h would be USTAR but for its name, and whether the
// name of the extended header begins like that of h.
func onlyNameIsLong(h *tar.Header) bool {
	const maxID, maxOther = 1<<21 - 1, 1<<33 - 1
	if len(h.Name) <= maxUSTARName || len(h.Name) > maxPAXName || strings.LastIndexByte(h.Name, '/') < nameField {
		return false
	}
	return isASCII(h.Name) && len(h.Linkname) <= nameField && isASCII(h.Linkname) &&
		len(h.PAXRecords) == 0 && h.Size <= maxOther && min(h.Uid, h.Gid) >= 0 && max(h.Uid, h.Gid) <= maxID &&
		min(h.Devmajor, h.Devminor) >= 0 && max(h.Devmajor, h.Devminor) <= maxID &&
		h.ModTime.Unix() >= 0 && h.ModTime.Unix() <= maxOther
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || s[i] == 0 {
			return false
		}
	}
	return true
}

// cutName is what the name field of a header holds of a longer name. It does not end
// in a slash, which some programs take for a directory.
func cutName(name string) string { return strings.TrimRight(name[:nameField], "/") }

// appendPath appends the extended header (pax(1)) of a file with a long name: a header
// of its own, and a record of the name.
func appendPath(b []byte, name string) []byte {
	const key = " path="
	// The record begins with its length, which counts the digits too.
	size := len(key) + len(name) + len("\n")
	size += len(strconv.Itoa(size + len(strconv.Itoa(size))))
	b = appendPathHeader(b, name, size)
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(append(append(b, key...), name...), '\n')
	return append(b, make([]byte, roundUp(int64(len(b)))-int64(len(b)))...)
}

func appendPathHeader(b []byte, name string, size int) []byte {
	var h [blockSize]byte
	copy(h[:], cutName(name))
	copy(h[100:], "0000000\x000000000\x000000000\x00") // mode, uid, gid
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	copy(h[148:], "        x") // checksum, type
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(b, h[:]...)
}
