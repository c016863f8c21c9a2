// Package git serves the files of git repositories, which the machine's git fetches and
// checks out.
package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// Fetcher gets files from repositories. What it got stays in git/ below the store's
// folder, in one folder for each repository.
//
// One value serves one build: within it every ref has one answer.
type Fetcher struct {
	remote.Config

	// SSH serves the agent of the given ID on a new socket at path, until stop is
	// called; fs.ErrNotExist when nobody gave that agent. Optional.
	SSH func(ctx context.Context, id, path string) (stop func(), err error)

	// Home is the home directory in which ssh finds known_hosts; "" is that of this
	// process's user.
	Home string

	source.Served

	client *http.Client
	refs   source.Answers[revision]
	trees  source.Answers[*local.Directory]
	// checked are the checkouts that are as they were made.
	checked sync.Map
}

// New returns a fetcher. Its SSH and Home may be set before it is used.
func New(c remote.Config) *Fetcher { return &Fetcher{Config: c, client: remote.NewClient()} }

// Close releases the files that were served. None may be in use any more.
func (f *Fetcher) Close() error {
	var errs []error
	for _, l := range f.trees.Forget() {
		errs = append(errs, l.Close())
	}
	f.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// request is a checked parser.Git.
type request struct {
	remote location
	// ref is as it was asked for; "" is the default branch.
	ref, subdir string
	// checksum is the beginning of the commit's or the annotated tag's
	// digest, or "".
	checksum string
	// byCommit: checksum is the commit, whatever ref is there.
	byCommit bool
	// keep the .git directory, which a subdirectory cannot have.
	keep           bool
	skipSubmodules bool
	commitTimes    bool

	tokenSecret, headerSecret string
	agent, knownHosts         string
}

// revision is what a ref of a repository was found to be.
type revision struct {
	// ref is the full name (refs/heads/main); "" for a commit.
	ref string
	// object is the digest of the commit, or of the annotated tag; then
	// commit is the tag's commit, if that is known yet.
	object, commit string
}

var (
	hexDigits   = regexp.MustCompile(`^[a-fA-F0-9]+$`)
	shortCommit = regexp.MustCompile(`^[a-f0-9]{4,39}$`)
)

// Files checks a commit out, if the store does not have it, and serves its files.
// They belong to 0:0 and have the modes that git gives with a umask of 022.
func (f *Fetcher) Files(ctx context.Context, op parser.Git) (source.FS, error) {
	q, err := newRequest(op)
	if err != nil {
		return nil, err
	}
	rev, err := f.revision(ctx, q)
	if err != nil {
		return nil, err
	}
	dir, err := f.checkout(ctx, q, rev)
	if err != nil {
		return nil, err
	}
	if dir, err = subdirOf(dir, q.subdir); err != nil {
		return nil, hint.Add(fmt.Errorf("invalid subdir %s of %s: %w", q.subdir, q.remote.shown, err),
			"name a directory of the repository; symlinks to one do not count")
	}
	l, err := f.trees.Get(dir, func() (*local.Directory, error) {
		return local.Open(dir, filepath.Join(f.Root, "contexts"))
	})
	if err != nil {
		return nil, err
	}
	f.Serves(op)
	return l.Select(parser.Local{}), nil
}

// Commit returns the commit object that op names, as "git cat-file commit"
// prints it.
func (f *Fetcher) Commit(ctx context.Context, op parser.Git) ([]byte, error) {
	q, err := newRequest(op)
	if err != nil {
		return nil, err
	}
	rev, err := f.revision(ctx, q)
	if err != nil {
		return nil, err
	}
	repo, err := f.openRepository(ctx, q, rev.object)
	if err != nil {
		return nil, err
	}
	defer repo.close()
	if err := repo.fetch(ctx, rev); err != nil {
		return nil, err
	}
	out, err := repo.git(ctx, "cat-file", "commit", rev.object+"^{commit}")
	return []byte(out), err
}

// Pin returns the hash of what op names: of a commit, or, as with BuildKit, of an
// annotated tag itself.
func (f *Fetcher) Pin(ctx context.Context, op parser.Git) (string, error) {
	q, err := newRequest(op)
	if err != nil {
		return "", err
	}
	rev, err := f.revision(ctx, q)
	return rev.object, err
}

func newRequest(op parser.Git) (request, error) {
	q := request{
		ref: op.Ref, checksum: op.Checksum, skipSubmodules: op.SkipSubmodules,
		subdir:      strings.TrimPrefix(path.Clean("/"+op.Subdir), "/"),
		tokenSecret: op.AuthTokenSecret, headerSecret: op.AuthHeaderSecret,
		agent: op.MountSSHSock, knownHosts: op.KnownSSHHosts,
	}
	q.keep = op.KeepGitDir && q.subdir == ""
	for name, value := range op.Attrs {
		switch {
		case name == pb.AttrGitMTime && (value == "commit" || value == "checkout"):
			q.commitTimes = value == "commit"
		case name == pb.AttrGitFetchByCommit:
			q.byCommit = value == "true"
		case name == pb.AttrGitAdvice: // what git says to people is not shown
		default:
			return q, fmt.Errorf("the attribute %s=%s of a git source is not supported", name, value)
		}
	}
	var err error
	if q.remote, err = parseLocation(cmp.Or(op.FullURL, op.Remote)); err != nil {
		return q, err
	}
	return q, q.check()
}

// check finds mistakes in the ref and the checksum.
func (q *request) check() error {
	if !harmless(q.ref) {
		return hint.Add(fmt.Errorf("invalid git ref %q", q.ref), "give a branch, a tag or a commit")
	}
	if q.checksum != "" && !hexDigits.MatchString(q.checksum) {
		return hint.Add(fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", q.checksum),
			"git rev-parse HEAD prints it")
	}
	if !q.byCommit || gitutil.IsCommitSHA(q.ref) {
		return nil
	}
	switch {
	case q.checksum == "":
		return hint.Add(errors.New("fetch-by-commit requires a checksum or a commit SHA ref"), "add checksum=COMMIT to the address")
	case !gitutil.IsCommitSHA(q.checksum):
		return hint.Add(fmt.Errorf("fetch-by-commit requires a full commit SHA checksum, got %q", q.checksum),
			"git rev-parse HEAD prints it")
	}
	return nil
}

// harmless reports whether a ref is nothing else to git: no option, pattern,
// range or pair of refs.
func harmless(ref string) bool {
	return !strings.HasPrefix(ref, "-") && !strings.ContainsAny(ref, " \t\n:?*[\\^~") && !strings.Contains(ref, "..")
}

// folder is where everything of the repository is kept.
func (f *Fetcher) folder(q request) string {
	return filepath.Join(f.Root, "git", remote.Name(q.remote.url, q.remote.user, q.remote.password))
}

// checkoutName stands for all that decides the files.
func (q *request) checkoutName(rev revision) string {
	if q.keep {
		return remote.Name(rev.object, q.keep, rev.ref, q.byShortTag(rev), q.skipSubmodules, q.commitTimes)
	}
	object := rev.object
	if rev.commit != "" {
		object = rev.commit
	}
	return remote.Name(object, q.keep, "", q.skipSubmodules, q.commitTimes)
}

// byShortTag reports whether a tag, which is not known to be an annotated one, was
// asked for by its short name: a .git that is kept has a branch of that name then.
func (q *request) byShortTag(rev revision) bool {
	return q.ref != "" && rev.ref == "refs/tags/"+q.ref && rev.commit == ""
}

// checkout returns the directory with the commit's files.
func (f *Fetcher) checkout(ctx context.Context, q request, rev revision) (string, error) {
	folder := f.folder(q)
	dir := filepath.Join(folder, "checkouts", q.checkoutName(rev))
	if err := f.ClaimFolder(folder); err != nil {
		return "", err
	}
	if made, err := f.isMade(ctx, dir); err != nil {
		return "", fmt.Errorf("reading a checkout of %s: %w", q.remote.shown, err)
	} else if made {
		return dir, remote.Use(folder, q.remote.shown)
	}
	repo, err := f.openRepository(ctx, q, rev.object)
	if err != nil {
		return "", err
	}
	defer repo.close()
	if made, err := f.isMade(ctx, dir); err != nil || made {
		return dir, err // another process was faster
	}
	if err := repo.fetch(ctx, rev); err != nil {
		return "", err
	}
	if err := repo.checkout(ctx, rev, dir); err != nil {
		return "", err
	}
	return dir, nil
}

// subdirOf returns a directory inside another. No part of the way may be a
// symlink.
func subdirOf(dir, sub string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	for _, part := range strings.Split(sub, "/") {
		dir = filepath.Join(dir, part)
		info, err := os.Lstat(dir)
		if err != nil {
			return "", &fs.PathError{Op: "lstat", Path: part, Err: errnoOf(err)}
		}
		if !info.IsDir() {
			return "", fmt.Errorf("git subpath %q contains non-directory %q", sub, part)
		}
	}
	return dir, nil
}
