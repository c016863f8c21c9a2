package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/parser"
)

// inputs are the directories that a build reads, by the names under which the
// frontend asks for them.
type inputs struct {
	locals  map[string]*source.Local
	layouts map[string]string
	// stdin is a copy of standard input, when that was read.
	stdin *os.File
}

// close writes back what was learnt about the directories' files.
func (in *inputs) close() {
	for _, l := range in.locals {
		// What is not written back is found out again next time.
		_ = l.Close()
	}
	in.locals = map[string]*source.Local{}
}

// openInputs finds the context, the Dockerfile and the named contexts, and
// completes the request with their names.
func (a *app) openInputs(ctx context.Context, f *buildFlags, req *parser.Request) (*inputs, error) {
	in := &inputs{locals: map[string]*source.Local{}, layouts: map[string]string{}}
	dir, dockerfile, err := a.mainContext(ctx, f, in)
	if err != nil {
		return nil, err
	}
	if err := a.openLocal(in, "context", dir); err != nil {
		return nil, err
	}
	if err := a.openLocal(in, "dockerfile", filepath.Dir(dockerfile)); err != nil {
		return nil, err
	}
	req.Dockerfile = filepath.Base(dockerfile)
	for _, text := range f.contexts {
		if err := a.namedContext(in, req, text); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func (a *app) openLocal(in *inputs, name, dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: dir, Err: errors.New("not a directory")}
	}
	if err != nil {
		return builder.Hinted(fmt.Errorf("the build context: %w", err), "give a directory that exists, or - for standard input")
	}
	root, err := a.root()
	if err != nil {
		return err
	}
	l, err := source.NewLocal(dir, filepath.Join(root, "contexts"))
	if err != nil {
		return err
	}
	in.locals[name] = l
	return nil
}

// mainContext returns the context's directory and the path of the Dockerfile.
func (a *app) mainContext(ctx context.Context, f *buildFlags, in *inputs) (dir, dockerfile string, err error) {
	if isRemote(f.context) {
		return "", "", builder.Hinted(fmt.Errorf("a context from git or http (%s) is not supported yet", f.context),
			"clone or download it, and give the directory")
	}
	if f.context == "-" && f.file == "-" {
		return "", "", &usageError{err: errors.New("context and Dockerfile cannot both be read from standard input"), command: "sinter build"}
	}
	if f.context != "-" && f.file != "-" {
		dockerfile = f.file
		if dockerfile == "" {
			dockerfile = defaultDockerfile(f.context)
		}
		return f.context, dockerfile, dockerfileThere(dockerfile)
	}
	if in.stdin, err = a.spool(); err != nil {
		return "", "", err
	}
	return a.stdinContext(ctx, f, in.stdin)
}

// defaultDockerfile is the Dockerfile in dir, or the Containerfile when there is
// none but that.
func defaultDockerfile(dir string) string {
	for _, name := range []string{"Dockerfile", "Containerfile"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(dir, "Dockerfile")
}

func dockerfileThere(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return builder.Hinted(fmt.Errorf("the Dockerfile %s does not exist", path), "name another with -f FILE")
	case err != nil:
		return fmt.Errorf("the Dockerfile: %w", err)
	case info.IsDir():
		return builder.Hinted(fmt.Errorf("the Dockerfile %s is a directory", path), "name a file with -f FILE")
	}
	return nil
}

// stdinContext reads a Dockerfile or a whole context from standard input.
func (a *app) stdinContext(ctx context.Context, f *buildFlags, stdin *os.File) (contextDir, dockerfile string, err error) {
	s, err := a.store()
	if err != nil {
		return "", "", err
	}
	dir, err := s.TempDir("context-")
	if err != nil {
		return "", "", err
	}
	if f.file == "-" {
		return f.context, filepath.Join(dir, "Dockerfile"), copyTo(filepath.Join(dir, "Dockerfile"), stdin)
	}
	isTar, err := archive.IsArchive(stdin)
	if err != nil {
		return "", "", fmt.Errorf("reading standard input: %w", err)
	}
	if _, err := stdin.Seek(0, io.SeekStart); err != nil {
		return "", "", err
	}
	if !isTar {
		dockerfile = filepath.Join(dir, "Dockerfile")
		empty, err := s.TempDir("empty-")
		if err != nil {
			return "", "", err
		}
		return empty, dockerfile, copyTo(dockerfile, stdin)
	}
	if err := builder.UnpackContext(ctx, s, stdin, dir); err != nil {
		return "", "", fmt.Errorf("unpacking the context from standard input: %w", err)
	}
	dockerfile = defaultDockerfile(dir)
	if f.file != "" {
		dockerfile = filepath.Join(dir, filepath.Clean("/"+f.file))
	}
	if _, err := os.Stat(dockerfile); err != nil {
		return "", "", builder.Hinted(fmt.Errorf("the context on standard input has no file %s", cmp.Or(f.file, "Dockerfile")), "name another with -f FILE")
	}
	return dir, dockerfile, nil
}

func copyTo(path string, r io.Reader) error {
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// spool copies standard input to a file without a name, so that it can be read
// twice and handed on.
func (a *app) spool() (*os.File, error) {
	if f, ok := a.stdin.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			_, err := f.Seek(0, io.SeekCurrent)
			return f, err
		}
	}
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	dir, err := s.TempDir("stdin-")
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "stdin")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err = io.Copy(f, bufio.NewReader(a.stdin)); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading standard input: %w", err), f.Close())
	}
	return f, nil
}

func isRemote(s string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// namedContext reads --build-context NAME=VALUE.
func (a *app) namedContext(in *inputs, req *parser.Request, text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" || value == "" {
		return wrongFlag("build-context", text, "want NAME=DIR or NAME=docker-image://REF")
	}
	name = strings.ToLower(name)
	switch dir, isLayout := strings.CutPrefix(value, "oci-layout://"); {
	case strings.HasPrefix(value, "docker-image://"), strings.HasPrefix(value, "target:"):
		req.Contexts[name] = value
	case isLayout:
		dir, ref := cutLayout(dir)
		d, err := source.LayoutDigest(dir, ref)
		if err != nil {
			return wrongFlag("build-context", text, err.Error())
		}
		// The frontend wants a name without anything special in it.
		id := fmt.Sprintf("layout%d", len(in.layouts))
		in.layouts[id] = dir
		req.Contexts[name] = "oci-layout://" + id + "@" + d.String()
	case isRemote(value):
		return builder.Hinted(fmt.Errorf("a context from git or http (%s) is not supported yet", value),
			"clone or download it, and give the directory")
	default:
		if err := a.openLocal(in, name, value); err != nil {
			return wrongFlag("build-context", text, err.Error())
		}
		req.Contexts[name] = "local:" + name
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
