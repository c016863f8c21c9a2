package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/parser"
)

// gitLabelsVariable asks for labels that say which commit an image is made of.
const gitLabelsVariable = "BUILDX_GIT_LABELS"

// addGitLabels adds the labels that buildx adds for $BUILDX_GIT_LABELS to those that
// were given: commit, repository, and the Dockerfile's place in it. dockerfile is ""
// when it is not a file.
func (o *opening) addGitLabels(ctx context.Context, dir, dockerfile string) error {
	if !isOn(gitLabelsVariable) && os.Getenv(gitLabelsVariable) != "full" {
		return nil
	}
	labels, err := gitLabels(ctx, dir, dockerfile)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		o.warn(fmt.Sprintf("%s: %v", gitLabelsVariable, err))
	}
	for name, value := range labels {
		if o.req.Labels == nil {
			o.req.Labels = map[string]string{}
		}
		if _, given := o.req.Labels[name]; !given {
			o.req.Labels[name] = value
		}
	}
	return nil
}

// gitLabels are the labels for a directory. There are none if it is in no repository.
func gitLabels(ctx context.Context, dir, dockerfile string) (map[string]string, error) {
	w, err := askGit(ctx, dir)
	if err != nil || w == nil {
		return nil, err
	}
	labels := map[string]string{}
	for name, value := range map[string]string{
		ocispec.AnnotationRevision: w.commit, ocispec.AnnotationSource: w.remote,
		"com.docker.image.source.entrypoint": below(w.root, dockerfile),
	} {
		if value != "" {
			labels[name] = value
		}
	}
	return labels, nil
}

// worktree is what git says of a directory in a repository.
type worktree struct {
	root string
	// commit is "" in a repository without one. With BUILDX_GIT_CHECK_DIRTY it ends in
	// -dirty when files have changed since.
	commit string
	// remote is the address that it was cloned from, without a password; "" for none.
	remote string
}

// askGit asks git about the repository that a directory is in; nil if it is in none.
func askGit(ctx context.Context, dir string) (*worktree, error) {
	// To start git costs more.
	if !inRepository(dir) && os.Getenv("GIT_DIR") == "" {
		return nil, nil
	}
	root, err := runGit(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	w := &worktree{root: root, remote: gitRemote(ctx, dir)}
	// A repository without a commit has no revision.
	if w.commit, err = runGit(ctx, dir, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return w, nil
	}
	if isOn("BUILDX_GIT_CHECK_DIRTY") {
		changed, err := hasChanged(ctx, root)
		if err != nil {
			return nil, err
		}
		if changed {
			w.commit += "-dirty"
		}
	}
	return w, nil
}

// inRepository reports whether dir or a directory above it has a .git.
func inRepository(dir string) bool {
	dir, err := filepath.Abs(dir)
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return true
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return false
}

// gitRemote is the address of the remote that the current branch follows, else of
// origin, else of upstream, without a password.
func gitRemote(ctx context.Context, dir string) string {
	names := []string{"origin", "upstream"}
	if branch, err := runGit(ctx, dir, "symbolic-ref", "--quiet", "--short", "HEAD"); err == nil {
		if name, err := runGit(ctx, dir, "config", "--get", "branch."+branch+".remote"); err == nil {
			names = append([]string{name}, names...)
		}
	}
	for _, name := range names {
		address, err := runGit(ctx, dir, "remote", "get-url", "--", name)
		if err != nil || address == "" {
			continue
		}
		if u, err := url.Parse(address); err == nil && u.User != nil && strings.HasPrefix(u.Scheme, "http") {
			u.User = nil
			address = u.String()
		}
		return parser.Redact(address) // of other schemes, and of what is not quite a URL
	}
	return ""
}

// below is the path of file in root, or "" if it is outside.
func below(root, file string) string {
	if file == "" {
		return ""
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(file)); err == nil {
		file = filepath.Join(dir, filepath.Base(file))
	}
	place, err := filepath.Rel(root, file)
	if err != nil || !filepath.IsLocal(place) {
		return ""
	}
	return place
}
