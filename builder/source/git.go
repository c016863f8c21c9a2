package source

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/sinter-build/sinter/parser"
)

// gitSource is a checked parser.Git.
type gitSource struct {
	remote gitRemote
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

// Git checks a commit out, if the store does not have it, and serves its files.
// They belong to 0:0 and have the modes that git gives with a umask of 022.
func (r *Remotes) Git(ctx context.Context, op parser.Git) (FS, error) {
	src, err := newGitSource(op)
	if err != nil {
		return nil, err
	}
	rev, err := r.revision(ctx, src)
	if err != nil {
		return nil, err
	}
	dir, err := r.checkout(ctx, src, rev)
	if err != nil {
		return nil, err
	}
	if dir, err = subdirOf(dir, src.subdir); err != nil {
		return nil, &RemoteError{
			Msg:  fmt.Sprintf("invalid subdir %s of %s", src.subdir, src.remote.shown),
			Hint: "name a directory of the repository; symlinks to one do not count", Err: err,
		}
	}
	l, err := slotOf(r, r.trees, dir).get(func() (*Local, error) {
		return NewLocal(dir, filepath.Join(r.root, "contexts"))
	})
	if err != nil {
		return nil, err
	}
	return l.Select(parser.Local{}), nil
}

// Commit returns the commit object that op names, as "git cat-file commit"
// prints it.
func (r *Remotes) Commit(ctx context.Context, op parser.Git) ([]byte, error) {
	src, err := newGitSource(op)
	if err != nil {
		return nil, err
	}
	rev, err := r.revision(ctx, src)
	if err != nil {
		return nil, err
	}
	repo, err := r.openRepository(ctx, src, rev.object)
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

func newGitSource(op parser.Git) (gitSource, error) {
	s := gitSource{
		ref: op.Ref, checksum: op.Checksum, skipSubmodules: op.SkipSubmodules,
		subdir:      strings.TrimPrefix(path.Clean("/"+op.Subdir), "/"),
		tokenSecret: op.AuthTokenSecret, headerSecret: op.AuthHeaderSecret,
		agent: op.MountSSHSock, knownHosts: op.KnownSSHHosts,
	}
	s.keep = op.KeepGitDir && s.subdir == ""
	for name, value := range op.Attrs {
		switch {
		case name == pb.AttrGitMTime && (value == "commit" || value == "checkout"):
			s.commitTimes = value == "commit"
		case name == pb.AttrGitFetchByCommit:
			s.byCommit = value == "true"
		case name == pb.AttrGitAdvice: // what git says to people is not shown
		default:
			return s, &RemoteError{Msg: fmt.Sprintf("the attribute %s=%s of a git source is not supported", name, value)}
		}
	}
	address := op.FullURL
	if address == "" {
		address = op.Remote
	}
	var err error
	if s.remote, err = parseGitRemote(address); err != nil {
		return s, err
	}
	return s, s.check()
}

// check finds mistakes in the ref and the checksum.
func (s *gitSource) check() error {
	if !harmless(s.ref) {
		return &RemoteError{Msg: fmt.Sprintf("invalid git ref %q", s.ref), Hint: "give a branch, a tag or a commit"}
	}
	if s.checksum != "" && !hexDigits.MatchString(s.checksum) {
		return &RemoteError{
			Msg:  fmt.Sprintf("invalid checksum %s for Git URL, expected hex commit hash", s.checksum),
			Hint: "git rev-parse HEAD prints it",
		}
	}
	if !s.byCommit || gitutil.IsCommitSHA(s.ref) {
		return nil
	}
	switch {
	case s.checksum == "":
		return &RemoteError{Msg: "fetch-by-commit requires a checksum or a commit SHA ref", Hint: "add checksum=COMMIT to the address"}
	case !gitutil.IsCommitSHA(s.checksum):
		return &RemoteError{
			Msg:  fmt.Sprintf("fetch-by-commit requires a full commit SHA checksum, got %q", s.checksum),
			Hint: "git rev-parse HEAD prints it",
		}
	}
	return nil
}

// harmless reports whether a ref is nothing else to git: no option, pattern,
// range or pair of refs.
func harmless(ref string) bool {
	return !strings.HasPrefix(ref, "-") && !strings.ContainsAny(ref, " \t\n:?*[\\^~") && !strings.Contains(ref, "..")
}

// folder is where everything of the repository is kept.
func (r *Remotes) folder(s gitSource) string {
	return filepath.Join(r.root, "git", folderName(s.remote.url, s.remote.user, s.remote.password))
}

// checkoutName stands for all that decides the files.
func (s *gitSource) checkoutName(rev revision) string {
	if s.keep {
		return folderName(rev.object, s.keep, rev.ref, s.byShortTag(rev), s.skipSubmodules, s.commitTimes)
	}
	object := rev.object
	if rev.commit != "" {
		object = rev.commit
	}
	return folderName(object, s.keep, "", s.skipSubmodules, s.commitTimes)
}

// byShortTag reports whether a tag, which is not known to be an annotated one, was
// asked for by its short name: a .git that is kept has a branch of that name then.
func (s *gitSource) byShortTag(rev revision) bool {
	return s.ref != "" && rev.ref == "refs/tags/"+s.ref && rev.commit == ""
}

// checkout returns the directory with the commit's files.
func (r *Remotes) checkout(ctx context.Context, s gitSource, rev revision) (string, error) {
	folder := r.folder(s)
	dir := filepath.Join(folder, "checkouts", s.checkoutName(rev))
	if err := r.claim(folder); err != nil {
		return "", err
	}
	if made, err := r.isMade(ctx, dir); err != nil {
		return "", fmt.Errorf("reading a checkout of %s: %w", s.remote.shown, err)
	} else if made {
		return dir, used(folder, s.remote.shown)
	}
	repo, err := r.openRepository(ctx, s, rev.object)
	if err != nil {
		return "", err
	}
	defer repo.close()
	if made, err := r.isMade(ctx, dir); err != nil || made {
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
