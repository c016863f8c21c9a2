package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"

	"github.com/sinter-build/sinter/builder/sandbox/userns"
	"github.com/sinter-build/sinter/builder/source/git"
	"github.com/sinter-build/sinter/builder/source/image"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/builder/source/web"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// inputs are what a build reads: directories by the names under which the
// frontend asks for them, and what comes from elsewhere.
type inputs struct {
	locals  map[string]*local.Directory
	layouts map[string]string
	git     *git.Fetcher
	web     *web.Fetcher
	// containerfile says that the Dockerfile is named as podman's are.
	containerfile bool
	// stdin is a copy of standard input, when that was read.
	stdin *os.File
}

// close writes back what was learnt about the directories' files.
func (in *inputs) close() {
	for _, l := range in.locals {
		// What is not written back is found out again next time.
		_ = l.Close()
	}
	in.locals = map[string]*local.Directory{}
	// Only files that were read are open.
	_, _ = in.git.Close(), in.web.Close()
}

// opening is the search for a build's inputs. It completes the request.
type opening struct {
	*building
	in  *inputs
	req *parser.Request
}

// openInputs finds the context, the Dockerfile and the named contexts, and
// completes the request with their names.
func (b *building) openInputs(ctx context.Context, req *parser.Request) (*inputs, error) {
	root, err := b.root()
	if err != nil {
		return nil, err
	}
	kept := remote.Config{Root: root, Claim: b.claim, Secrets: b.secrets.reader(ctx, &b.files)}
	o := &opening{building: b, req: req, in: &inputs{
		locals: map[string]*local.Directory{}, layouts: map[string]string{},
		git: git.New(kept), web: web.New(kept),
	}}
	o.in.git.Home = userns.Home()
	o.in.git.SSH = func(ctx context.Context, id, path string) (func(), error) {
		return b.agents.serve(ctx, id, path, parser.Mount{UID: os.Geteuid(), GID: os.Getegid(), Mode: 0o600})
	}
	if err := o.all(ctx); err != nil {
		o.in.close()
		return nil, err
	}
	return o.in, nil
}

func (o *opening) all(ctx context.Context) error {
	if err := o.mainContext(ctx); err != nil {
		return err
	}
	if o.ignore != nil && o.req.Context != "" {
		return hintedFlag("ignorefile", o.flags.ignoreFile, "ignore rules do not apply to an archive, a repository or a download, as in docker",
			"leave it out, or give a directory as the context")
	}
	for _, text := range o.flags.contexts {
		if err := o.namedContext(text); err != nil {
			return err
		}
	}
	return nil
}

func (o *opening) openLocal(name, dir string) error {
	what, other := "the build context", "or - for standard input"
	if name != "context" && name != "dockerfile" {
		what, other = "the context "+strings.TrimPrefix(name, "_"), "or docker-image://IMAGE"
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return hint.Add(fmt.Errorf("%s: %s is a file, not a directory", what, dir),
			"give the directory that the files to copy are in; a Dockerfile is named with -f FILE, an archive is read from standard input: - < FILE")
	}
	if err != nil {
		return hint.Add(fmt.Errorf("%s: %w", what, err),
			"give a directory that exists, the address of a repository or an archive, "+other)
	}
	root, err := o.root()
	if err != nil {
		return err
	}
	l, err := local.Open(dir, filepath.Join(root, "contexts"))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return hint.Add(fmt.Errorf("the build context: %w", err), "give a directory that is still there and that this user can read")
	}
	if err != nil {
		return err
	}
	o.in.locals[name] = l
	return nil
}

// mainContext finds the context and the Dockerfile.
func (o *opening) mainContext(ctx context.Context) error {
	where, file := o.flags.context, o.flags.file
	if where == "-" {
		if file == "-" {
			return usagef("context and Dockerfile cannot both be read from standard input")
		}
		return o.stdinContext(ctx)
	}
	if info, err := os.Stat(where); (err != nil || !info.IsDir()) && parser.IsRemote(where) {
		return o.remoteContext(ctx, where)
	}
	if err := o.openLocal("context", where); err != nil {
		return err
	}
	switch {
	case file == "-" || parser.IsHTTP(file):
		if err := o.addGitLabels(ctx, where, ""); err != nil {
			return err
		}
		return o.foreignDockerfile(ctx)
	case file == "":
		file = defaultDockerfile(where)
	}
	if err := o.addGitLabels(ctx, where, file); err != nil {
		return err
	}
	if err := o.dockerfile(ctx, file); err != nil {
		return err
	}
	o.warnOfIgnore(where)
	return nil
}

// warnOfIgnore says so when a .containerignore is there and does not count.
func (o *opening) warnOfIgnore(dir string) {
	there := func(path string) bool {
		_, err := os.Lstat(path)
		return err == nil
	}
	if o.in.containerfile || o.ignore != nil || !there(filepath.Join(dir, ".containerignore")) || there(filepath.Join(dir, ".dockerignore")) {
		return
	}
	o.warn(".containerignore does not apply to a Dockerfile, as in docker: name it .dockerignore, or the Dockerfile Containerfile")
}

// remoteContext is a context from a repository or a server. The Dockerfile is a
// path in it, unless it is absolute.
func (o *opening) remoteContext(ctx context.Context, address string) error {
	o.req.Context = address
	switch file := o.flags.file; {
	case file == "-" || parser.IsHTTP(file):
		return o.foreignDockerfile(ctx)
	case filepath.IsAbs(file):
		return o.dockerfile(ctx, file)
	default:
		o.req.Dockerfile = file
	}
	return nil
}

// dockerfile takes the Dockerfile from a directory of the user's. It may be a pipe
// where a person named it.
func (o *opening) dockerfile(ctx context.Context, path string) error {
	path = lowerCase(path)
	info, err := dockerfileThere(path)
	if err != nil {
		return err
	}
	if err := o.flags.foreign.checkDockerfilePolicy(path); err != nil {
		return err
	}
	o.in.containerfile = strings.HasPrefix(filepath.Base(path), "Containerfile")
	switch {
	case info.Mode().IsRegular():
	case o.flags.file == "":
		return fmt.Errorf("the Dockerfile: %w", &hostfile.KindError{Path: path, Mode: info.Mode()})
	default:
		return o.pipedDockerfile(ctx, path)
	}
	o.req.Dockerfile, o.req.LocalDockerfile = filepath.Base(path), true
	if o.req.Shown == "" {
		o.req.Shown = filepath.Clean(path)
	}
	return o.openLocal("dockerfile", filepath.Dir(path))
}

// defaultDockerfile is the Dockerfile in dir, or the Containerfile when that is
// the only one there.
func defaultDockerfile(dir string) string {
	for _, name := range []string{"Dockerfile", "dockerfile", "Containerfile"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(dir, "Dockerfile")
}

// lowerCase is the path of a file called dockerfile where it is there and the
// Dockerfile is not, as in docker.
func lowerCase(path string) string {
	if filepath.Base(path) != "Dockerfile" {
		return path
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return path
	}
	lower := filepath.Join(filepath.Dir(path), "dockerfile")
	if _, err := os.Stat(lower); err != nil {
		return path
	}
	return lower
}

func dockerfileThere(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		//lint:ignore ST1005 Dockerfile is a name
		return nil, hint.Add(fmt.Errorf("Dockerfile not found: %s", path), "name another with -f FILE")
	case err != nil:
		return nil, fmt.Errorf("the Dockerfile: %w", err)
	case info.IsDir():
		return nil, hint.Add(fmt.Errorf("the Dockerfile %s is a directory", path), "name a file with -f FILE")
	}
	return info, nil
}

// namedContext reads --build-context NAME=VALUE.
func (o *opening) namedContext(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" || value == "" {
		return wrongFlag("build-context", text, "want NAME=DIR, NAME=URL, NAME=docker-image://REF, NAME=oci-layout://DIR or NAME=target:STAGE")
	}
	name = strings.ToLower(name)
	if bare, _, _ := strings.Cut(name, "::"); bare != "" {
		if _, err := reference.ParseNormalizedNamed(bare); err != nil {
			return badFlag("build-context", text, hint.Add(err, "a context's name is that of a stage or an image: lower-case letters, digits and separators"))
		}
	}
	if ref, ok := strings.CutPrefix(value, "docker-image://"); ok {
		if _, err := reference.ParseNormalizedNamed(ref); err != nil {
			return badFlag("build-context", text, err)
		}
	}
	dir, isLayout := strings.CutPrefix(value, "oci-layout://")
	switch {
	case strings.HasPrefix(value, "docker-image://"), strings.HasPrefix(value, "target:"), parser.IsRemote(value):
		o.req.Contexts[name] = value
	case isLayout:
		dir, ref := cutLayout(dir)
		d, err := image.Layout{Dir: dir}.Digest(ref)
		if err != nil {
			return badFlag("build-context", text, hint.Add(err, "give the directory of an OCI layout, which has an index.json, and a tag or digest that is in it"))
		}
		// The frontend wants a name without anything special in it.
		id := fmt.Sprintf("layout%d", len(o.in.layouts))
		o.in.layouts[id] = dir
		o.req.Contexts[name] = "oci-layout://" + id + "@" + d.String()
	default:
		local := name
		if name == "context" || name == "dockerfile" {
			local = "_" + name // these two are the main ones
		}
		if err := o.openLocal(local, value); err != nil {
			return badFlag("build-context", text, err)
		}
		o.req.Contexts[name] = "local:" + local
	}
	return nil
}

// cutLayout splits DIR[:TAG][@DIGEST] into the directory and ":TAG@DIGEST".
func cutLayout(s string) (dir, ref string) {
	dir = s
	if i := strings.Index(dir, "@"); i >= 0 {
		dir, ref = dir[:i], dir[i:]
	}
	if i := strings.LastIndex(dir, ":"); i > strings.LastIndex(dir, "/") {
		dir, ref = dir[:i], dir[i:]+ref
	}
	return dir, ref
}
