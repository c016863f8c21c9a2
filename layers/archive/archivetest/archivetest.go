// Package archivetest has what the tests of all readers of tars share. Nothing
// else imports it.
package archivetest

import (
	"bytes"
	"fmt"
)

const blockSize = 512

// RepairAll returns a copy of a tar in which every block that looks like a
// header has the right checksum. Next to nothing that a fuzzer makes up would
// get past a reader otherwise.
func RepairAll(data []byte) []byte {
	data = bytes.Clone(data)
	for i := 0; i+blockSize <= len(data); i += blockSize {
		if bytes.HasPrefix(data[i+257:], []byte("ustar")) {
			Repair(data[i : i+blockSize])
		}
	}
	return data
}

// Repair gives a header block the checksum it should have.
func Repair(block []byte) {
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block[:blockSize] {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
}
