package layers

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/opencontainers/go-digest"
)

// Sum is the SHA-256 of a file's content. The zero Sum stands for an unknown one.
// Trees of hundreds of thousands of files hold one for each file, so it is the bytes
// and not their text.
type Sum [sha256.Size]byte

const sha256Prefix = "sha256:"

// SumOf returns the Sum that d spells, or the zero Sum if d is not a SHA-256 digest in
// canonical form.
func SumOf(d digest.Digest) Sum {
	var s Sum
	if len(d) != len(sha256Prefix)+2*sha256.Size || d[:len(sha256Prefix)] != sha256Prefix {
		return Sum{}
	}
	if _, err := hex.Decode(s[:], []byte(d[len(sha256Prefix):])); err != nil || s.Digest() != d {
		return Sum{}
	}
	return s
}

// Known reports whether s is the digest of content.
func (s Sum) Known() bool { return s != Sum{} }

// Digest returns s in OCI's form, or "" if it is unknown.
func (s Sum) Digest() digest.Digest {
	if !s.Known() {
		return ""
	}
	var text [len(sha256Prefix) + 2*sha256.Size]byte
	copy(text[:], sha256Prefix)
	hex.Encode(text[len(sha256Prefix):], s[:])
	return digest.Digest(text[:])
}

// String returns Digest as text, for messages.
func (s Sum) String() string { return s.Digest().String() }
