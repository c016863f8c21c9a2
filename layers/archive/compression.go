// Package archive turns layers into tar streams and back: deterministic tars
// of entries, blobs compressed in independent chunks on all cores, foreign
// layers and archives read with suspicion, directories unpacked from a tree
// and trees made of the upper directory of an overlay.
//
// Its invariant: the same entries and contents give the same bytes, on any
// machine and with any number of cores. It knows nothing of where layers are
// kept; that is package store.
package archive

import (
	"fmt"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types of compression a layer blob can have.
const (
	Gzip         = "gzip"
	Zstd         = "zstd"
	Uncompressed = "uncompressed"
)

// Compression says how a layer blob is compressed. The zero value is gzip
// at its default level.
type Compression struct {
	// Type is Gzip (also when empty), Zstd or Uncompressed.
	Type string
	// Level is 1 to 9 for gzip, or Stored; 1 to 22 for zstd; 0 is the
	// default (6 for gzip, 3 for zstd).
	Level int
}

// Stored is the level of gzip that does not compress at all.
const Stored = -1

// Canonical is c in the one way of several in which it can be written.
func (c Compression) Canonical() Compression {
	if c.Type == "" {
		c.Type = Gzip
	}
	if c.Type == Gzip && c.Level == gzipDefault || c.Type == Zstd && c.Level == zstdDefault {
		c.Level = 0
	}
	return c
}

// String is what ParseCompression reads.
func (c Compression) String() string {
	c = c.Canonical()
	if c.Level == 0 {
		return c.Type
	}
	return c.Type + ":" + strconv.Itoa(c.Level)
}

// ParseCompression reads "gzip", "zstd" or "uncompressed", with an optional
// level as in "zstd:19".
func ParseCompression(s string) (Compression, error) {
	name, level, hasLevel := strings.Cut(s, ":")
	c := Compression{Type: name}
	if hasLevel {
		n, err := strconv.Atoi(level)
		if err != nil {
			return Compression{}, &compressionError{fmt.Sprintf("compression level %q is not a number", level)}
		}
		c.Level = n
	}
	if err := c.Check(); err != nil {
		return Compression{}, err
	}
	return c, nil
}

// MediaType is the OCI media type of a layer compressed this way.
func (c Compression) MediaType() string {
	switch c.Type {
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	case Uncompressed:
		return ocispec.MediaTypeImageLayer
	default:
		return ocispec.MediaTypeImageLayerGzip
	}
}

// Check says what is wrong with c, if anything.
func (c Compression) Check() error {
	lowest, highest := 0, 0
	switch c.Type {
	case "", Gzip:
		lowest, highest = Stored, 9
	case Zstd:
		highest = 22
	case Uncompressed:
	default:
		return &compressionError{fmt.Sprintf("compression %q is not known", c.Type)}
	}
	if c.Level < lowest || c.Level > highest {
		return &compressionError{fmt.Sprintf("compression level %d is out of range for %s", c.Level, c.Canonical().Type)}
	}
	return nil
}

// compressionError is a compression that the user asked for and that does
// not exist.
type compressionError struct{ text string }

func (e *compressionError) Error() string { return e.text }

// HintText says what can be asked for instead.
func (e *compressionError) HintText() string {
	return "compression is gzip (levels 1 to 9), zstd (1 to 22) or uncompressed"
}
