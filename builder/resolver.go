package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/image"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// Resolver answers what the parser asks while it reads a Dockerfile, and tells
// of it as BuildKit does.
type Resolver struct {
	Images *image.Finder
	// Locals are directories by name: "context", "dockerfile", named
	// contexts.
	Locals map[string]*local.Directory
	// Ignore has the ignore rules in place of those of .dockerignore files;
	// nil leaves these in force.
	Ignore []byte
	// Containerfile makes .containerignore files count, before .dockerignore, as
	// with podman.
	Containerfile bool
	Events        progress.Func
	// CheckContext may refuse a context that is not local, by its files. nil takes all.
	CheckContext func(fs.FS) error
	// Build is how contexts that are not local are built.
	Build Config

	// ignoreNames has the ignore files that were read, by directory and name.
	ignoreNames sync.Map
}

// ResolveImage implements parser.Resolver.
func (r *Resolver) ResolveImage(ctx context.Context, ref string, p *ocispec.Platform, pull bool) (parser.ImageMeta, error) {
	var meta image.Meta
	err := r.tell(ctx, "[internal] load metadata for "+ref, func() (err error) {
		meta, err = r.Images.Resolve(ctx, ref, p, pull)
		return err
	})
	return parser.ImageMeta(meta), err
}

// ResolveLayout implements parser.Resolver.
func (r *Resolver) ResolveLayout(ctx context.Context, storeID, ref string, p *ocispec.Platform) (parser.ImageMeta, error) {
	var meta image.Meta
	err := r.tell(ctx, "[internal] load metadata for "+ref, func() (err error) {
		meta, err = r.Images.ResolveLayout(ctx, storeID, ref, p)
		return err
	})
	return parser.ImageMeta(meta), err
}

// ReadLocal implements parser.Resolver.
func (r *Resolver) ReadLocal(ctx context.Context, name, file string) ([]byte, error) {
	l, err := r.directory(name)
	if err != nil {
		return nil, err
	}
	if r.Ignore != nil && name == "dockerfile" && path.Ext(file) == dockerIgnore {
		// The one beside the Dockerfile wins over all others.
		return r.Ignore, nil
	}
	if path.Ext(file) == dockerIgnore {
		found, data, err := readIgnore(l, name, r.ignoreFiles(name, file))
		r.ignoreNames.Store([2]string{name, file}, found)
		return data, err
	}
	var data []byte
	read := func() (err error) {
		data, err = l.ReadFile(file)
		return err
	}
	if name == "dockerfile" {
		err = r.tell(ctx, "[internal] load build definition from "+file, read)
	} else {
		err = read()
	}
	return data, err
}

const dockerIgnore, containerIgnore = ".dockerignore", ".containerignore"

// ignoreFiles are the files that can hold the rules for which the frontend asks, the
// one that wins first. The order is podman's.
func (r *Resolver) ignoreFiles(name, file string) []string {
	switch {
	case name == "dockerfile":
		return []string{file, strings.TrimSuffix(file, dockerIgnore) + containerIgnore}
	case r.Containerfile:
		return []string{containerIgnore, file}
	}
	return []string{file}
}

// IgnoreFile implements parser.Resolver.
func (r *Resolver) IgnoreFile(name, file string) string {
	if r.Ignore != nil {
		return "--ignorefile"
	}
	if found, ok := r.ignoreNames.Load([2]string{name, file}); ok {
		return found.(string)
	}
	return file
}

// readIgnore reads the first of the files that is there.
func readIgnore(l *local.Directory, name string, files []string) (found string, data []byte, err error) {
	for _, file := range files {
		data, err := readIgnoreFile(l, name, file)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, data, err
		}
	}
	return "", nil, fs.ErrNotExist
}

// readIgnoreFile reads an ignore file. One that is there must be readable: without its
// rules an image would hold what it is to be kept from.
func readIgnoreFile(l *local.Directory, name, file string) ([]byte, error) {
	data, err := l.ReadFile(file)
	var kind *hostfile.KindError
	switch {
	case err == nil:
		return data, nil
	case errors.As(err, &kind) && kind.Mode.IsDir():
		// As in BuildKit, a directory holds no rules.
		return nil, fs.ErrNotExist
	case errors.Is(err, fs.ErrNotExist):
		target, linkErr := l.Link(file)
		if linkErr == nil && target == "" {
			return nil, err
		}
		err = hint.Add(cmp.Or(linkErr, fmt.Errorf("it is a symbolic link to %q, which is not in the directory", target)),
			"put the file itself there, or remove the link")
	case errors.Is(err, fs.ErrPermission):
		err = hint.Add(err, "let this user read it, or give other rules with --ignorefile")
	}
	where := ""
	if name != "context" && name != "dockerfile" {
		where = " of the context " + name
	}
	return nil, fmt.Errorf("reading %s%s: %w", file, where, err)
}

// StatLocal implements parser.Resolver.
func (r *Resolver) StatLocal(ctx context.Context, name, file string) (fs.FileInfo, error) {
	l, err := r.directory(name)
	if err != nil {
		return nil, err
	}
	return l.Stat(file)
}

// ReadDirLocal implements parser.Resolver.
func (r *Resolver) ReadDirLocal(ctx context.Context, name, dir, pattern string) ([]fs.FileInfo, error) {
	l, err := r.directory(name)
	if err != nil {
		return nil, err
	}
	return l.ReadDir(dir, pattern)
}

// OpenNode implements parser.Resolver.
func (r *Resolver) OpenNode(ctx context.Context, g *parser.Graph, in parser.Input) (fs.FS, error) {
	files, err := Open(ctx, g, in, r.Build)
	if err != nil {
		return nil, err
	}
	// The frontend keeps the files for later questions, whose contexts are others.
	opened := source.Standard(context.WithoutCancel(ctx), files)
	if r.CheckContext != nil {
		err = r.CheckContext(opened)
	}
	return opened, err
}

// ResolveGit implements parser.Resolver.
func (r *Resolver) ResolveGit(ctx context.Context, name string, op parser.Git) (meta parser.GitMeta, err error) {
	err = r.tell(ctx, name, func() (err error) {
		meta.Commit, err = r.Build.Git.Commit(ctx, op)
		return err
	})
	return meta, err
}

// ResolveHTTP implements parser.Resolver.
func (r *Resolver) ResolveHTTP(ctx context.Context, name string, op parser.HTTP) (meta parser.HTTPMeta, err error) {
	err = r.tell(ctx, name, func() error {
		d, modified, err := r.Build.Web.Modified(ctx, op)
		meta.Digest = d
		if !modified.IsZero() {
			meta.LastModified = &modified
		}
		return err
	})
	return meta, err
}

func (r *Resolver) directory(name string) (*local.Directory, error) {
	l, ok := r.Locals[name]
	if !ok {
		return nil, fmt.Errorf("local directory %q not found", name)
	}
	return l, nil
}

// tell reports work of the given name.
func (r *Resolver) tell(ctx context.Context, name string, do func() error) error {
	name = parser.Redact(name)
	step := progress.StepOf(name)
	r.Events(progress.Declared{Step: step, Name: name})
	r.Events(progress.Started{Step: step, Name: name, Time: time.Now()})
	err := do()
	r.Events(progress.End(ctx, step, name, err))
	return err
}
