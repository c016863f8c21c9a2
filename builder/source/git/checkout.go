package git

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
)

// checkout makes the directory dest with the revision's files.
func (r *repository) checkout(ctx context.Context, rev revision, dest string) error {
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	// Submodules may lie on servers that send whole histories only.
	err := r.checkoutOnce(ctx, rev, dest, "--depth=1")
	if refusesShallow(err) || says(err, "not our ref", "unadvertised object") {
		err = r.checkoutOnce(ctx, rev, dest, "")
	}
	if err != nil {
		return explain("failed to checkout remote "+r.source.remote.shown, r.source, err)
	}
	return nil
}

func (r *repository) checkoutOnce(ctx context.Context, rev revision, dest, depth string) (err error) {
	tmp, err := os.MkdirTemp(r.folder, remote.TempPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.RemoveAll(ctx, tmp)) }()
	w := &worktree{repository: r, tree: filepath.Join(tmp, "tree"), dir: filepath.Join(tmp, "git")}
	if r.source.keep {
		w.dir = filepath.Join(w.tree, ".git")
	}
	if err := os.Mkdir(w.tree, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(w.tree, 0o755); err != nil { // whatever the umask is
		return err
	}
	if err := w.fill(ctx, rev, depth); err != nil {
		return err
	}
	// Nobody looks at the files of a checkout again: under its final name it is
	// believed also after the machine has gone down.
	if err := syncTree(w.tree); err != nil {
		return fmt.Errorf("keeping the checkout: %w", err)
	}
	// One that was copied or changed.
	if err := os.Rename(dest, filepath.Join(tmp, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(w.tree, dest); err != nil {
		return err
	}
	return r.mark(ctx, dest)
}

// markOf names the file that has the archive.Mark of a checkout: in a store that was
// copied, modes and symlinks may be lost, and what was changed is not the commit any
// more.
func markOf(checkout string) string {
	return filepath.Join(filepath.Dir(filepath.Dir(checkout)), "made", filepath.Base(checkout))
}

func (r *repository) mark(ctx context.Context, dir string) error {
	m, err := archive.MarkOf(ctx, dir, false)
	if err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(markOf(dir)), 0o700); err != nil {
		return err
	}
	return folder.WriteFile(filepath.Join(r.folder, remote.TempPrefix), markOf(dir), data, 0o600)
}

// isMade reports whether dir is a checkout that was made here, and is as it was. It
// is compared once in a process. An error says nothing about the checkout.
func (f *Fetcher) isMade(ctx context.Context, dir string) (bool, error) {
	if _, sound := f.checked.Load(dir); sound {
		return true, nil
	}
	data, err := os.ReadFile(markOf(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var m archive.Mark
	if json.Unmarshal(data, &m) != nil {
		return false, nil
	}
	if made, err := m.Is(dir); err != nil || !made {
		return false, err
	}
	same, err := m.Unchanged(ctx, dir)
	if err == nil && same {
		f.checked.Store(dir, true)
	}
	return same, err
}

// syncTree makes durable what is on the file system of a directory.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// worktree is a checkout that is being made. The repository itself is not
// touched: one of its own, in dir, borrows or has the objects.
type worktree struct {
	*repository
	tree, dir string
}

func (w *worktree) git(ctx context.Context, args ...string) (string, error) {
	return w.program.run(ctx, call{gitDir: w.dir, tree: w.tree, args: args})
}

func (w *worktree) fill(ctx context.Context, rev revision, depth string) error {
	if err := w.init(ctx, rev); err != nil {
		return err
	}
	commit := rev.object + "^{commit}"
	for _, args := range [][]string{
		{"remote", "add", "origin", w.source.remote.url},
		{"update-ref", "--no-deref", "HEAD", commit},
		{"read-tree", "--reset", "-u", "HEAD"},
	} {
		if _, err := w.git(ctx, args...); err != nil {
			return err
		}
	}
	if !w.source.skipSubmodules {
		if err := w.submodules(ctx, depth); err != nil {
			return err
		}
	}
	if w.source.keep {
		// The files of the log stay, without the time of this checkout.
		if _, err := w.git(ctx, "reflog", "expire", "--all", "--expire=now"); err != nil {
			return err
		}
	}
	if w.source.commitTimes {
		return w.setTimes(ctx)
	}
	return nil
}

// init makes the worktree's repository. One that is kept gets copies of the
// objects.
func (w *worktree) init(ctx context.Context, rev revision) error {
	format := "--object-format=sha1"
	if len(rev.object) == 64 {
		format = "--object-format=sha256"
	}
	if _, err := w.git(ctx, "init", "--quiet", format); err != nil {
		return err
	}
	if !w.source.keep {
		return w.borrow()
	}
	target := rev.ref
	if target == "" {
		target = kept(rev.object)
	}
	_, err := w.program.run(ctx, call{
		gitDir: w.dir, tree: w.tree, protocols: fileProtocol,
		args: []string{
			"fetch", "--quiet", "--update-head-ok", "--no-tags", "--depth=1", "--", "file://" + w.repository.dir,
			"+" + kept(rev.object) + ":" + target,
		},
	})
	if err != nil {
		return err
	}
	if rev.ref == "" {
		// HEAD will be the only ref.
		if _, err := w.git(ctx, "update-ref", "--no-deref", "HEAD", rev.object+"^{commit}"); err != nil {
			return err
		}
		if _, err := w.git(ctx, "update-ref", "-d", target); err != nil {
			return err
		}
	}
	if err := w.branchOfTag(ctx, rev); err != nil {
		return err
	}
	err = os.Remove(filepath.Join(w.dir, "FETCH_HEAD"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// branchOfTag gives a lightweight tag that was asked for by its short name a
// branch of that name, as BuildKit's fetch does.
func (w *worktree) branchOfTag(ctx context.Context, rev revision) error {
	if !w.source.byShortTag(rev) {
		return nil
	}
	kind, err := w.git(ctx, "cat-file", "-t", rev.object)
	if err != nil || strings.TrimSpace(kind) != "commit" {
		return err
	}
	_, err = w.git(ctx, "update-ref", "refs/heads/"+w.source.ref, rev.object)
	return err
}

// borrow lets the worktree's repository see the objects of the other one.
func (w *worktree) borrow() error {
	info := filepath.Join(w.dir, "objects", "info")
	if err := os.MkdirAll(info, 0o755); err != nil {
		return err
	}
	line := filepath.Join(w.repository.dir, "objects") + "\n"
	if err := os.WriteFile(filepath.Join(info, "alternates"), []byte(line), 0o644); err != nil {
		return err
	}
	shallow, err := os.ReadFile(filepath.Join(w.repository.dir, "shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "shallow"), shallow, 0o644)
}

// setTimes gives every file and directory the time of the commit.
func (w *worktree) setTimes(ctx context.Context) error {
	out, err := w.git(ctx, "log", "-1", "--format=%ct", "HEAD")
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return fmt.Errorf("time of the commit: %w", err)
	}
	var paths []string
	err = filepath.WalkDir(w.tree, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return errors.Join(err, ctx.Err())
	})
	if err != nil {
		return err
	}
	at := unix.Timespec{Sec: seconds}
	for _, path := range slices.Backward(paths) { // a directory after what is in it
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "utimensat", Path: path, Err: err}
		}
	}
	return nil
}

// errnoOf is the reason alone of an error that names a path.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
