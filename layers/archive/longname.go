package archive

import (
	"archive/tar"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Lengths of fields of a tar header, and the longest name that USTAR can hold.
const (
	nameField    = 100
	maxUSTARName = 155 + 1 + nameField
)

// writeHeader writes h as tar.Writer does, with the same bytes. That one takes much
// time for long names, since it words a reason why other formats cannot have them.
func (s *stream) writeHeader(h *tar.Header) error {
	if !onlyNameIsLong(h) {
		return s.tw.WriteHeader(h)
	}
	if err := s.tw.Flush(); err != nil {
		return err
	}
	record := paxRecord("path", h.Name)
	x := pathHeader(h.Name, len(record))
	padding := make([]byte, roundUp(int64(len(record)))-int64(len(record)))
	for _, b := range [][]byte{x[:], []byte(record), padding} {
		if _, err := s.out.Write(b); err != nil {
			return err
		}
	}
	short := *h
	short.Name = cutName(h.Name)
	return s.tw.WriteHeader(&short)
}

// onlyNameIsLong reports whether the name alone keeps a header from being USTAR, and
// makes an extended header that begins like it.
func onlyNameIsLong(h *tar.Header) bool {
	const maxID, maxOther = 1<<21 - 1, 1<<33 - 1
	if len(h.Name) <= maxUSTARName || strings.LastIndexByte(h.Name, '/') < nameField {
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

// paxRecord is a record of an extended header (pax(1)). Its length counts itself.
func paxRecord(key, value string) string {
	n := len(key) + len(value) + len(" =\n")
	size := n + len(strconv.Itoa(n))
	if n+len(strconv.Itoa(size)) != size {
		size++
	}
	return strconv.Itoa(size) + " " + key + "=" + value + "\n"
}

// pathHeader is the header of the extended header, of that size, of a file with a
// long name.
func pathHeader(name string, size int) (b [blockSize]byte) {
	copy(b[:], cutName(name))
	copy(b[100:], "0000000\x000000000\x000000000\x00") // mode, uid, gid
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	copy(b[148:], "        x") // checksum, type
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}
