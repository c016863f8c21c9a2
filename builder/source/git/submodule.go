package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/sinter-build/sinter/layers/hint"
)

// submodules fills the submodules' directories. They keep their .git files, as
// with BuildKit.
func (w *worktree) submodules(ctx context.Context, depth string) error {
	if err := w.program.updateSubmodules(ctx, call{gitDir: w.dir, tree: w.tree}, depth); err != nil {
		return fmt.Errorf("submodules: %w", err)
	}
	if w.source.keep {
		return nil
	}
	if _, err := os.Stat(filepath.Join(w.dir, "modules")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return filepath.WalkDir(w.tree, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == ".git" && e.Type().IsRegular() {
			err = w.relocate(path)
		}
		return errors.Join(err, ctx.Err())
	})
}

// updateSubmodules fills the directories of the submodules of the worktree that
// in names, and of theirs. git could do so itself; but what a repository says of
// its submodules is looked at before git acts on it.
func (g *program) updateSubmodules(ctx context.Context, in call, depth string) error {
	list := in
	list.args, list.most = []string{"ls-files", "--stage", "-z"}, maxIndex
	listed, err := g.run(ctx, list)
	if err != nil {
		return err
	}
	paths, err := submodulePaths(listed)
	if err != nil || len(paths) == 0 {
		return err
	}
	in.args = []string{"submodule", "--quiet", "update", "--init"}
	if depth != "" {
		in.args = append(in.args, depth)
	}
	if _, err := g.run(ctx, in); err != nil {
		return err
	}
	for _, path := range paths {
		dir := filepath.Join(in.tree, path)
		// One that .gitmodules says not to update has no repository.
		if _, err := os.Lstat(filepath.Join(dir, ".git")); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := g.updateSubmodules(ctx, call{gitDir: filepath.Join(dir, ".git"), tree: dir}, depth); err != nil {
			return err
		}
	}
	return nil
}

// maxIndex is the most bytes that the list of a repository's files may have.
const maxIndex = 1 << 30

// The modes of submodules and symlinks in git's index.
const (
	gitlinkMode = "160000 "
	symlinkMode = "120000 "
)

// submodulePaths finds the submodules in what git ls-files printed. It refuses
// those with which versions of git were led to write to other places: behind a
// symlink, also one that only a file system takes for the same name
// (CVE-2024-32002), or with control characters, which git lost (CVE-2025-48384).
func submodulePaths(listed string) ([]string, error) {
	var paths []string
	symlinks := map[string]bool{}
	for entry := range strings.SplitSeq(listed, "\x00") {
		about, name, _ := strings.Cut(entry, "\t")
		switch {
		case strings.HasPrefix(about, gitlinkMode):
			paths = append(paths, name)
		case strings.HasPrefix(about, symlinkMode):
			symlinks[strings.ToLower(name)] = true
		}
	}
	for _, name := range paths {
		if strings.ContainsFunc(name, unicode.IsControl) {
			return nil, refusedSubmodule(name, "its path has control characters")
		}
		for p := strings.ToLower(name); p != "." && p != "/"; p = path.Dir(p) {
			if symlinks[p] {
				return nil, refusedSubmodule(name, "it lies behind a symlink")
			}
		}
	}
	return paths, nil
}

func refusedSubmodule(name, reason string) error {
	return hint.Add(fmt.Errorf("the submodule %q is refused: %s", name, reason),
		"such submodules can make git write outside the repository; to build without submodules, add ?submodules=false to the address")
}

// relocate makes a submodule's .git file lead to where its repository would be
// if .git had been kept: what it says then depends on nothing of this machine.
func (w *worktree) relocate(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	to := strings.TrimSpace(strings.TrimPrefix(string(data), "gitdir:"))
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(file), to)
	}
	module, err := filepath.Rel(w.dir, to)
	if err != nil || !filepath.IsLocal(module) {
		return os.Remove(file)
	}
	up, err := filepath.Rel(filepath.Dir(file), w.tree)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte("gitdir: "+filepath.Join(up, ".git", module)+"\n"), 0o644)
}
