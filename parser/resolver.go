package parser

import (
	"context"
	"io/fs"
	"time"

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
	// IgnoreFile names the file whose rules ReadLocal gave for an ignore file.
	IgnoreFile(name, path string) string
	// StatLocal describes such a file.
	StatLocal(ctx context.Context, name, path string) (fs.FileInfo, error)
	// ReadDirLocal lists such a directory, sorted by name; a pattern other
	// than "" keeps the names that it matches (as path.Match does).
	ReadDirLocal(ctx context.Context, name, path, pattern string) ([]fs.FileInfo, error)

	// OpenNode returns the files that a node yields: those of a git or http
	// context, in which the Dockerfile is. g holds that node and those that
	// it needs.
	OpenNode(ctx context.Context, g *Graph, in Input) (fs.FS, error)
	// ResolveGit finds the commit that a repository's ref is. name is what
	// the question is called in the display.
	ResolveGit(ctx context.Context, name string, op Git) (GitMeta, error)
	// ResolveHTTP finds out about a file on the web.
	ResolveHTTP(ctx context.Context, name string, op HTTP) (HTTPMeta, error)
}

// GitMeta is what is known of a repository at a ref.
type GitMeta struct {
	// Commit is the commit object, as "git cat-file commit" prints it.
	Commit []byte
}

// HTTPMeta is what is known of a downloaded file.
type HTTPMeta struct {
	Digest digest.Digest
	// LastModified is nil when the server does not say.
	LastModified *time.Time
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
