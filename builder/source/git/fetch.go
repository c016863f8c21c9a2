package git

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

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/hint"
)

// revision finds what the ref is now, asking the repository once in a build,
// and compares it with the checksum.
func (f *Fetcher) revision(ctx context.Context, q request) (revision, error) {
	if rev, ok, err := q.pinned(); ok || err != nil {
		return rev, err
	}
	key := remote.Name(q.remote.url, q.remote.user, q.remote.password, q.ref, q.tokenSecret, q.headerSecret)
	rev, err := f.refs.Get(key, func() (revision, error) {
		g, stop, err := f.program(ctx, q, nil)
		if err != nil {
			return revision{}, err
		}
		defer stop()
		rev, err := g.listRemote(ctx, q)
		if errors.Is(err, errNoRef) && shortCommit.MatchString(q.ref) {
			return f.findShort(ctx, q)
		}
		return rev, err
	})
	if err != nil {
		return revision{}, err
	}
	if q.checksum != "" && !strings.HasPrefix(rev.object, q.checksum) && !strings.HasPrefix(rev.commit, q.checksum) {
		got := rev.object
		if rev.commit != "" {
			got += " or " + rev.commit
		}
		return revision{}, mismatch(q.checksum, got)
	}
	return rev, nil
}

func mismatch(want, got string) error {
	return hint.Add(fmt.Errorf("expected checksum to match %s, got %s", want, got),
		"the ref is not at the commit that was expected: look at what changed, then correct the checksum")
}

// pinned returns the revision of a source that names it itself.
func (q *request) pinned() (rev revision, ok bool, err error) {
	if gitutil.IsCommitSHA(q.ref) {
		if !strings.HasPrefix(q.ref, q.checksum) {
			return rev, false, mismatch(q.checksum, q.ref)
		}
		return revision{object: q.ref}, true, nil
	}
	if !q.byCommit {
		return rev, false, nil
	}
	rev.object = q.checksum
	if q.ref != "" {
		rev.ref = "refs/heads/" + q.ref
		if strings.HasPrefix(q.ref, "refs/") {
			rev.ref = q.ref
		}
	}
	return rev, true, nil
}

var errNoRef = errors.New("no such ref")

// listRemote asks the repository for the ref.
func (g *program) listRemote(ctx context.Context, q request) (revision, error) {
	byDefault := q.ref == "" || q.ref == "HEAD"
	out, err := g.ask(ctx, "", func(remote string) []string {
		if byDefault {
			return []string{"ls-remote", "--symref", "--", remote, "HEAD"}
		}
		return []string{"ls-remote", "--", remote, q.ref, q.ref + "^{}"}
	})
	if err != nil {
		return revision{}, explain("failed to fetch remote "+q.remote.shown, q, err)
	}
	return chosen(out, q)
}

// chosen finds the source's ref in what git ls-remote printed.
func chosen(listed string, q request) (revision, error) {
	byDefault := q.ref == "" || q.ref == "HEAD"
	refs := map[string]string{}
	for line := range strings.Lines(listed) {
		object, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		refs[name] = object
		if target, ok := strings.CutPrefix(object, "ref: "); ok {
			refs["-> "+name] = target
		}
	}
	rev, ok := pick(refs, q.ref)
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
		return rev, hint.Add(fmt.Errorf("could not find default branch for repository: %s: %w", q.remote.shown, errNoRef), "name a branch, a tag or a commit after #")
	case !ok:
		return rev, hint.Add(fmt.Errorf("repository %s does not contain ref %s: %w", q.remote.shown, q.ref, errNoRef),
			"git ls-remote "+q.remote.shown+" lists its branches and tags")
	case !gitutil.IsCommitSHA(rev.object) || rev.commit != "" && !gitutil.IsCommitSHA(rev.commit):
		return rev, fmt.Errorf("invalid commit sha %q of %s", rev.object, q.remote.shown)
	}
	return rev, nil
}

// pick chooses among refs as BuildKit does: the name as it is, a branch,
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
func (f *Fetcher) findShort(ctx context.Context, q request) (revision, error) {
	repo, err := f.openRepository(ctx, q, "")
	if err != nil {
		return revision{}, err
	}
	defer repo.close()
	if err := repo.fetchAll(ctx, ""); err != nil {
		return revision{}, err
	}
	out, err := repo.git(ctx, "rev-parse", "--verify", "--quiet", q.ref+"^{commit}")
	if err != nil {
		return revision{}, hint.Add(fmt.Errorf("repository %s does not contain ref %s: %w", q.remote.shown, q.ref, errNoRef),
			"git ls-remote "+q.remote.shown+" lists its branches and tags")
	}
	rev := revision{object: strings.TrimSpace(out)}
	_, err = repo.git(ctx, "update-ref", kept(rev.object), rev.object)
	return rev, err
}

// repository is the bare copy of what was fetched from one remote, locked. What
// is there in full has a ref below refs/sinter/.
type repository struct {
	program *program
	source  request
	// folder is the remote's, dir the repository in it.
	folder, dir string
	close       func()
}

// kept is the ref that an object has which was fetched in full.
func kept(object string) string { return "refs/sinter/" + object }

// openRepository opens the repository for objects such as the one given; "" is
// of the usual format.
func (f *Fetcher) openRepository(ctx context.Context, q request, object string) (*repository, error) {
	folder := f.folder(q)
	lock, err := f.Lock(ctx, folder, q.remote.shown)
	if err != nil {
		return nil, err
	}
	g, stop, err := f.program(ctx, q, lock)
	if err != nil {
		lock.Close()
		return nil, err
	}
	repo := &repository{program: g, source: q, folder: folder, dir: filepath.Join(folder, "repo"), close: func() {
		stop()
		lock.Close()
	}}
	format := "sha1"
	if len(object) == 64 {
		format, repo.dir = "sha256", filepath.Join(folder, "repo-sha256")
	}
	if err := repo.prepare(ctx, format); err != nil {
		repo.close()
		return nil, fmt.Errorf("keeping %s: %w", q.remote.shown, err)
	}
	return repo, nil
}

// prepare makes the repository, or removes what a git that was killed left.
func (r *repository) prepare(ctx context.Context, format string) error {
	if _, err := os.Stat(r.dir); err == nil {
		return removeStale(r.dir)
	}
	tmp := filepath.Join(r.folder, remote.TempPrefix+"repo")
	args := []string{"init", "--quiet", "--bare", "--template="}
	if format != "sha1" {
		args = append(args, "--object-format="+format)
	}
	if _, err := r.program.run(ctx, call{args: append(args, tmp)}); err != nil {
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
	return r.program.run(ctx, call{gitDir: r.dir, args: args})
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
			return hint.Add(fmt.Errorf("repository %s does not contain commit %s: %w", r.source.remote.shown, rev.object, err),
				"check the commit; it must belong to a branch or a tag of the repository")
		}
		return nil
	}
	if err != nil {
		return explain("failed to fetch remote "+r.source.remote.shown, r.source, err)
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
		return explain("failed to fetch remote "+r.source.remote.shown, r.source, err)
	}
	return nil
}
