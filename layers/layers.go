// Package layers holds the values an image is made of: Layer, Chain, Entry
// and Tree. They are plain data: nothing in this package does I/O. How a
// layer is stored, packed, unpacked and mounted is the matter of the
// sub-packages (archive, store, image).
package layers

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ID names one layer in a store. It is the hex part of the diff ID for a
// layer whose bytes were known when it was made here (by COPY), a random name
// for one that a command made, and BaseID for a layer of somebody's image.
type ID string

// basePrefix begins the IDs of layers that came with an image.
const basePrefix = "base-"

// BaseID names a layer of an image by its blob and the diff ID that the image's
// config claims. What an image says of its layers is thus said of these alone:
// no other blob, and no layer that was made here, goes by the same name. OCI's
// and Docker's media types mean the same.
func BaseID(desc ocispec.Descriptor, diffID digest.Digest) ID {
	said := fmt.Sprintf("%s\n%s\n%d\n%s", OCIType(desc.MediaType), desc.Digest, desc.Size, diffID)
	return ID(basePrefix + digest.FromString(said).Encoded())
}

// IsBase reports whether the layer came with an image, rather than being made
// here.
func (id ID) IsBase() bool { return strings.HasPrefix(string(id), basePrefix) }

// Docker's media types of layers, image manifest version 2, schema 2.
const (
	DockerLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// OCIType returns OCI's name for a media type of Docker's. Any other type stays.
func OCIType(mediaType string) string {
	switch mediaType {
	case DockerLayer:
		return ocispec.MediaTypeImageLayer
	case DockerLayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	}
	return mediaType
}

// EmptyID names the layer that changes nothing: the digest of a tar without
// entries, 1024 zero bytes.
const EmptyID ID = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// Layer is one file system change: what a step adds to its parent. A layer
// has forms (blob, tar, tree, directory) that a store makes on demand; the
// value only names it.
type Layer struct {
	ID ID `json:"id"`
	// DiffID is the digest of the uncompressed tar; empty until the layer
	// has been packed for the first time. That of an image's layer is only a
	// claim until the blob has been inflated.
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

// Append returns a chain with l on top; c is not changed. Chains that grow from one
// another share their layers, so that a thousand steps do not need the room of a
// million layers.
func (c Chain) Append(l Layer) Chain {
	appending.Lock()
	defer appending.Unlock()
	// The place behind c is taken by a chain that grew from c before.
	if len(c) == cap(c) || c[:len(c)+1][len(c)].ID != "" {
		c = append(make(Chain, 0, max(8, 2*len(c))), c...)
	}
	return append(c, l)
}

// appending is held while a chain grows, so that two that grow from one do not take
// the same place.
var appending sync.Mutex

// RootOwner returns who owns the root directory when a step has changed that.
func (c Chain) RootOwner() (Owner, bool) {
	for _, l := range slices.Backward(c) {
		if l.RootOwner != nil {
			return *l.RootOwner, true
		}
	}
	return Owner{}, false
}

// WithoutEmpty returns the chain without layers that change nothing.
func (c Chain) WithoutEmpty() Chain {
	return slices.DeleteFunc(slices.Clone(c), func(l Layer) bool { return l.ID == EmptyID })
}
