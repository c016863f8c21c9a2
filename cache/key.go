// Package cache knows what has been done before. A Key names a piece of work
// by everything that decides its result; a Record says what that work
// yielded; a Store keeps records, remembered content digests and cache mounts,
// written so that any process can be killed at any instant and many can share
// one folder.
//
// The invariant: equal keys mean equal work. The package knows nothing of
// Dockerfiles, layers' bytes or how work is done.
package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
)

// Key is the digest of a Recipe.
type Key [sha256.Size]byte

// String returns the key in hex.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText writes the key in hex.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a key in hex. It fails on anything but 64 hex digits.
func (k *Key) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(k)) {
		return errors.New("a key has 64 hex digits")
	}
	_, err := hex.Decode(k[:], b)
	return err
}

// Part is one named input of a key. The name is for people: when a step that
// was cached is not any more, the parts that differ say why.
type Part struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Kind and From are for people too, and not in the key.
	Kind PartKind `json:"kind,omitempty"`
	// From is what the value comes from: a step, a base image, a directory.
	From string `json:"from,omitempty"`
}

// PartKind says how a difference of a part is explained.
type PartKind string

const (
	// Setting parts have values that people wrote.
	Setting PartKind = ""
	// Does parts say what the step does, in the terms of its instruction.
	Does PartKind = "does"
	// Variable parts have a variable's name, and its value.
	Variable PartKind = "variable"
	// After parts have the key of a step whose result the step stands on.
	After PartKind = "after"
	// Base parts have the key of a base image.
	Base PartKind = "base"
	// Content parts have the digest of files that the step reads.
	Content PartKind = "content"
)

// Recipe is the ordered list of all that decides a step's result. Order
// counts: the same parts in another order are another recipe.
type Recipe []Part

// Add appends a part of one value, and returns it for its kind to be set.
func (r *Recipe) Add(name, value string) *Part {
	*r = append(*r, Part{Name: name, Value: value})
	return &(*r)[len(*r)-1]
}

// AddList appends a part of several values, written so that no two different
// lists give the same part. A name stands for lists always or never: a list of
// one is not written like a value.
func (r *Recipe) AddList(name string, values ...string) *Part {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(quote.Replace(v))
		b.WriteByte('\n')
	}
	return r.Add(name, b.String())
}

// quote keeps a value of a list on one line; unquote is the reverse.
var (
	quote   = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	unquote = strings.NewReplacer(`\\`, `\`, `\n`, "\n")
)

// keyVersion is part of every key. Raise it when the same recipe begins to
// mean another result.
const keyVersion = "sinter step 3"

// mountVersion is that of cache mounts: what commands keep there stays when the keys of
// steps change.
const mountVersion = "sinter step 2"

// Key returns the digest of the recipe, as the key of a step.
func (r Recipe) Key() Key { return r.digest(keyVersion) }

// MountKey returns the digest of the recipe, as the name of a cache mount.
func (r Recipe) MountKey() Key { return r.digest(mountVersion) }

func (r Recipe) digest(version string) Key {
	h := sha256.New()
	field := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	field(version)
	for _, p := range r {
		field(p.Name)
		field(p.Value)
	}
	var k Key
	h.Sum(k[:0])
	return k
}
