package parser

import (
	"context"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Resolver answers what the parser cannot know from the Dockerfile alone. Its
// methods are called from several goroutines at once. Within one Parse the
// same question is asked only once.
type Resolver interface {
	// ResolveImage finds an image in a registry or in the store. ref is a
	// full reference (docker.io/library/debian:12, perhaps with a digest).
	// A nil platform means the build platform. With pull, an answer that
	// the store remembers will not do.
	ResolveImage(ctx context.Context, ref string, platform *ocispec.Platform, pull bool) (ImageMeta, error)
	// ResolveLayout finds an image in the OCI layout that a named context
	// "oci-layout://STOREID@DIGEST" refers to. ref ends in @DIGEST.
	ResolveLayout(ctx context.Context, storeID, ref string, platform *ocispec.Platform) (ImageMeta, error)

	// ReadLocal reads a file of the local directory of the given name
	// ("context", "dockerfile", or NAME of a named context "local:NAME").
	// path is relative and slash-separated. An error for which errors.Is
	// fs.ErrNotExist holds means that there is no such file.
	ReadLocal(ctx context.Context, name, path string) ([]byte, error)
	// StatLocal describes such a file.
	StatLocal(ctx context.Context, name, path string) (fs.FileInfo, error)
	// ReadDirLocal lists such a directory, sorted by name; a pattern other
	// than "" keeps the names that it matches (as path.Match does).
	ReadDirLocal(ctx context.Context, name, path, pattern string) ([]fs.FileInfo, error)

	// ReadNode reads a file of what a node yields: the Dockerfile of a git
	// or http context. g holds that node and those that it needs.
	ReadNode(ctx context.Context, g *Graph, in Input, path string) ([]byte, error)
}

// ImageMeta is what is known of an image without its layers.
type ImageMeta struct {
	// Ref is the reference that was found: the one asked for, or a mirror's
	// or a policy's choice.
	Ref string
	// Digest is that of the manifest or index that the reference names.
	Digest digest.Digest
	// Config is the image config (JSON) for the platform asked for.
	Config []byte
}
