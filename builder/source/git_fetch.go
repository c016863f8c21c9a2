package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/util/gitutil"
)

// revision finds what the ref is now, asking the repository once in a build,
// and compares it with the checksum.
func (r *Remotes) revision(ctx context.Context, s gitSource) (revision, error) {
	if rev, ok, err := s.pinned(); ok || err != nil {
		return rev, err
	}
	key := folderName(s.remote.url, s.remote.user, s.remote.password, s.ref, s.tokenSecret, s.headerSecret)
	rev, err := slotOf(r, r.refs, key).get(func() (revision, error) {
		g, stop, err := r.program(ctx, s, nil)
		if err != nil {
			return revision{}, err
		}
		defer stop()
		rev, err := g.listRemote(ctx, s)
		if errors.Is(err, errNoRef) && shortCommit.MatchString(s.ref) {
			return r.findShort(ctx, s)
		}
		return rev, err
	})
	if err != nil {
		return revision{}, err
	}
	if s.checksum != "" && !strings.HasPrefix(rev.object, s.checksum) && !strings.HasPrefix(rev.commit, s.checksum) {
		got := rev.object
		if rev.commit != "" {
			got += " or " + rev.commit
		}
		return revision{}, mismatch(s.checksum, got)
	}
	return rev, nil
}

func mismatch(want, got string) error {
	return &RemoteError{
		Msg:  fmt.Sprintf("expected checksum to match %s, got %s", want, got),
		Hint: "the ref is not at the commit that was expected: look at what changed, then correct the checksum",
	}
}

// pinned returns the revision of a source that names it itself.
func (s *gitSource) pinned() (rev revision, ok bool, err error) {
	if gitutil.IsCommitSHA(s.ref) {
		if !strings.HasPrefix(s.ref, s.checksum) {
			return rev, false, mismatch(s.checksum, s.ref)
		}
		return revision{object: s.ref}, true, nil
	}
	if !s.byCommit {
		return rev, false, nil
	}
	rev.object = s.checksum
	if s.ref != "" {
		rev.ref = "refs/heads/" + s.ref
		if strings.HasPrefix(s.ref, "refs/") {
			rev.ref = s.ref
		}
	}
	return rev, true, nil
}

var errNoRef = errors.New("no such ref")

// listRemote asks the repository for the ref.
func (g *gitProgram) listRemote(ctx context.Context, s gitSource) (revision, error) {
	byDefault := s.ref == "" || s.ref == "HEAD"
	out, err := g.ask(ctx, "", func(remote string) []string {
		if byDefault {
			return []string{"ls-remote", "--symref", "--", remote, "HEAD"}
		}
		return []string{"ls-remote", "--", remote, s.ref, s.ref + "^{}"}
	})
	if err != nil {
		return revision{}, explainGit("failed to fetch remote "+s.remote.shown, s, err)
	}
	return chosen(out, s)
}

// chosen finds the source's ref in what git ls-remote printed.
func chosen(listed string, s gitSource) (revision, error) {
	byDefault := s.ref == "" || s.ref == "HEAD"
	refs := map[string]string{}
	for line := range strings.Lines(listed) {
		object, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		refs[name] = object
		if target, ok := strings.CutPrefix(object, "ref: "); ok {
			refs["-> "+name] = target
		}
	}
	rev, ok := pick(refs, s.ref)
	if byDefault {
		rev = revision{object: refs["HEAD"]}
		ok = rev.object != ""
		// The server's word, which goes into commands.
		if branch := refs["-> HEAD"]; strings.HasPrefix(branch, "refs/heads/") && harmless(branch) {
			rev.ref = branch
		}
	}
	switch {
	case !ok && byDefault:
		return rev, &RemoteError{Msg: "could not find default branch for repository: " + s.remote.shown, Hint: "name a branch, a tag or a commit after #", Err: errNoRef}
	case !ok:
		return rev, &RemoteError{
			Msg:  fmt.Sprintf("repository %s does not contain ref %s", s.remote.shown, s.ref),
			Hint: "git ls-remote " + s.remote.shown + " lists its branches and tags", Err: errNoRef,
		}
	case !gitutil.IsCommitSHA(rev.object) || rev.commit != "" && !gitutil.IsCommitSHA(rev.commit):
		return rev, &RemoteError{Msg: fmt.Sprintf("invalid commit sha %q of %s", rev.object, s.remote.shown)}
	}
	return rev, nil
}

// pick chooses among refs as the reference does: the name as it is, a branch,
// a tag.
func pick(refs map[string]string, ref string) (revision, bool) {
	tag := "refs/tags/" + strings.TrimPrefix(ref, "refs/tags/")
	for _, name := range []string{
		"refs/" + strings.TrimPrefix(ref, "refs/"), "refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"), tag,
	} {
		object, ok := refs[name]
		if !ok {
			continue
		}
		rev := revision{ref: name, object: object}
		if name == tag {
			rev.commit = refs[tag+"^{}"]
		}
		return rev, true
	}
	return revision{}, false
}

// findShort finds a commit by the beginning of its digest. No server can tell,
// so all branches and tags are fetched.
func (r *Remotes) findShort(ctx context.Context, s gitSource) (revision, error) {
	repo, err := r.openRepository(ctx, s, "")
	if err != nil {
		return revision{}, err
	}
	defer repo.close()
	if err := repo.fetchAll(ctx, ""); err != nil {
		return revision{}, err
	}
	out, err := repo.git(ctx, "rev-parse", "--verify", "--quiet", s.ref+"^{commit}")
	if err != nil {
		return revision{}, &RemoteError{
			Msg:  fmt.Sprintf("repository %s does not contain ref %s", s.remote.shown, s.ref),
			Hint: "git ls-remote " + s.remote.shown + " lists its branches and tags", Err: errNoRef,
		}
	}
	rev := revision{object: strings.TrimSpace(out)}
	_, err = repo.git(ctx, "update-ref", kept(rev.object), rev.object)
	return rev, err
}

// repository is the bare copy of what was fetched from one remote, locked. What
// is there in full has a ref below refs/sinter/.
type repository struct {
	program *gitProgram
	source  gitSource
	// folder is the remote's, dir the repository in it.
	folder, dir string
	close       func()
}

// kept is the ref that an object has which was fetched in full.
func kept(object string) string { return "refs/sinter/" + object }

// openRepository opens the repository for objects such as the one given; "" is
// of the usual format.
func (r *Remotes) openRepository(ctx context.Context, s gitSource, object string) (*repository, error) {
	folder := r.folder(s)
	lock, err := r.lockFolder(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("keeping %s: %w", s.remote.shown, err)
	}
	if err := used(folder, s.remote.shown); err != nil {
		return nil, errors.Join(fmt.Errorf("keeping %s: %w", s.remote.shown, err), lock.Close())
	}
	g, stop, err := r.program(ctx, s, lock)
	if err != nil {
		lock.Close()
		return nil, err
	}
	repo := &repository{program: g, source: s, folder: folder, dir: filepath.Join(folder, "repo"), close: func() {
		stop()
		lock.Close()
	}}
	format := "sha1"
	if len(object) == 64 {
		format, repo.dir = "sha256", filepath.Join(folder, "repo-sha256")
	}
	if err := repo.prepare(ctx, format); err != nil {
		repo.close()
		return nil, fmt.Errorf("keeping %s: %w", s.remote.shown, err)
	}
	return repo, nil
}

// prepare makes the repository, or removes what a git that was killed left.
func (r *repository) prepare(ctx context.Context, format string) error {
	if _, err := os.Stat(r.dir); err == nil {
		return removeStale(r.dir)
	}
	tmp := filepath.Join(r.folder, tempPrefix+"repo")
	args := []string{"init", "--quiet", "--bare", "--template="}
	if format != "sha1" {
		args = append(args, "--object-format="+format)
	}
	if _, err := r.program.run(ctx, gitCall{args: append(args, tmp)}); err != nil {
		return err
	}
	return os.Rename(tmp, r.dir)
}

// removeStale removes locks and unfinished packs. As we hold the folder's lock
// they are nobody's.
func removeStale(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := e.Name()
		switch {
		case e.IsDir():
			if filepath.Base(filepath.Dir(path)) == "objects" && name != "pack" && name != "info" {
				return filepath.SkipDir
			}
		case strings.HasSuffix(name, ".lock"), strings.HasPrefix(name, "tmp_"):
			return os.Remove(path)
		}
		return nil
	})
}

func (r *repository) git(ctx context.Context, args ...string) (string, error) {
	return r.program.run(ctx, gitCall{gitDir: r.dir, args: args})
}

// fetch gets the revision, with as little of its history as the server can
// give.
func (r *repository) fetch(ctx context.Context, rev revision) error {
	if _, err := r.git(ctx, "rev-parse", "--verify", "--quiet", kept(rev.object)); err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	spec := "+" + rev.object + ":" + kept(rev.object)
	fetch := func(args ...string) error {
		_, err := r.program.ask(ctx, r.dir, func(remote string) []string {
			return slices.Concat([]string{"fetch", "--quiet", "--no-tags"}, args, []string{"--", remote, spec})
		})
		return err
	}
	err := fetch("--depth=1")
	if refusesShallow(err) {
		err = fetch()
	}
	if says(err, "not our ref", "unadvertised object", "couldn't find remote ref") {
		if err := r.fetchAll(ctx, rev.ref); err != nil {
			return err
		}
		if _, err := r.git(ctx, "update-ref", kept(rev.object), rev.object); err != nil {
			return &RemoteError{
				Msg:  fmt.Sprintf("repository %s does not contain commit %s", r.source.remote.shown, rev.object),
				Hint: "check the commit; it must belong to a branch or a tag of the repository", Err: err,
			}
		}
		return nil
	}
	if err != nil {
		return explainGit("failed to fetch remote "+r.source.remote.shown, r.source, err)
	}
	return nil
}

// refusesShallow reports whether a server cannot send a part of the history.
func refusesShallow(err error) bool { return says(err, "--depth", "shallow") }

// fetchAll gets all branches and tags, and ref, with their whole history.
func (r *repository) fetchAll(ctx context.Context, ref string) error {
	options := []string{"fetch", "--quiet", "--prune", "--no-tags"}
	if _, err := os.Lstat(filepath.Join(r.dir, "shallow")); err == nil {
		options = append(options, "--unshallow")
	}
	specs := []string{"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}
	if ref != "" && !strings.HasPrefix(ref, "refs/heads/") && !strings.HasPrefix(ref, "refs/tags/") {
		specs = append(specs, "+"+ref+":"+ref)
	}
	_, err := r.program.ask(ctx, r.dir, func(remote string) []string {
		return slices.Concat(options, []string{"--", remote}, specs)
	})
	if err != nil {
		return explainGit("failed to fetch remote "+r.source.remote.shown, r.source, err)
	}
	return nil
}
