// Package layers holds the values an image is made of: Layer, Chain, Entry
// and Tree. They are plain data: nothing in this package does I/O. How a
// layer is stored, packed, unpacked and mounted is the matter of the
// sub-packages (archive, store, image).
package layers

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ID names one layer in a store. It is the hex part of the diff ID for a
// layer whose bytes were known when it was made (pulled, or written by COPY),
// and a random name for one that a command made.
type ID string

// EmptyID names the layer that changes nothing: the digest of a tar without
// entries, 1024 zero bytes.
const EmptyID ID = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// Layer is one file system change: what a step adds to its parent. A layer
// has forms (blob, tar, tree, directory) that a store makes on demand; the
// value only names it.
type Layer struct {
	ID ID `json:"id"`
	// DiffID is the digest of the uncompressed tar; empty until the layer
	// has been packed for the first time.
	DiffID digest.Digest `json:"diffID,omitempty"`
	// Descriptor describes the compressed blob; its Digest is empty until
	// the layer has been packed.
	Descriptor ocispec.Descriptor `json:"descriptor,omitzero"`
	// Created is when the step that made the layer ended.
	Created time.Time `json:"created,omitzero"`
	// Origins are repositories (such as "docker.io/library/debian") known
	// to hold the blob.
	Origins []string `json:"origins,omitempty"`
	// RootOwner is who owns the root directory from this layer on, where the
	// step changed that. No blob tells it: it counts for later steps only, as in
	// BuildKit.
	RootOwner *Owner `json:"rootOwner,omitempty"`
}

// Owner is a user and a group.
type Owner struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// Chain is what every step yields: the layers of a root file system, the
// lowest first. The empty chain is scratch.
type Chain []Layer

// Append returns a new chain with l on top; c is not changed.
func (c Chain) Append(l Layer) Chain {
	return append(slices.Clone(c), l)
}

// RootOwner returns who owns the root directory when a step has changed that.
func (c Chain) RootOwner() (Owner, bool) {
	for _, l := range slices.Backward(c) {
		if l.RootOwner != nil {
			return *l.RootOwner, true
		}
	}
	return Owner{}, false
}

// IDs returns the names of the layers, the lowest first.
func (c Chain) IDs() []ID {
	ids := make([]ID, len(c))
	for i, l := range c {
		ids[i] = l.ID
	}
	return ids
}
