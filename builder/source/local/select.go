package local

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/parser"
)

// selected is a directory as one node of a graph sees it: without what
// .dockerignore hides. Nothing is read in advance; a file that is hidden, or
// that nobody asks for, is not looked at.
type selected struct {
	local *Directory
	op    parser.Local

	ready sync.Once
	fail  error
	rules source.Rules

	// mu guards the rules, which keep state, and the maps.
	mu   sync.Mutex
	dirs map[string]source.Matched
	// open tells of directories that are not selected themselves whether
	// something below is.
	open map[string]bool
}

// Select returns the directory as the node of op sees it. A mistake in a
// pattern shows when the result is first used.
func (l *Directory) Select(op parser.Local) source.FS {
	return &selected{local: l, op: op, dirs: map[string]source.Matched{}, open: map[string]bool{}}
}

// Widen returns files without the limits of what a step asks for, which only
// suggestions may look behind: of a directory what .dockerignore leaves, or all
// of it when ignored files count too. Other file systems have no limits.
func Widen(files source.FS, ignored bool) source.FS {
	s, ok := files.(*selected)
	if !ok {
		return files
	}
	op := s.op
	op.Include, op.FollowPaths = nil, nil
	if ignored {
		op.Exclude = nil
	}
	return s.local.Select(op)
}

// IsDirectory reports whether files are those of a directory of the user's, such
// as a build context.
func IsDirectory(files source.FS) bool {
	_, ok := files.(*selected)
	return ok
}

// prepare compiles the rules.
func (s *selected) prepare() error {
	s.ready.Do(func() {
		include := slices.Clone(s.op.Include)
		if len(s.op.FollowPaths) > 0 {
			targets, err := s.local.follow(s.op.FollowPaths)
			if err != nil {
				s.fail = err
				return
			}
			if targets != nil {
				all := map[string]bool{}
				for _, p := range append(include, targets...) {
					all[p] = true
				}
				include = outermost(all)
			}
		}
		slices.Sort(include)
		s.rules, s.fail = source.NewIgnoreRules(include, s.op.Exclude)
	})
	return s.fail
}

// judgeDir returns what the rules say of a directory. mu is held.
func (s *selected) judgeDir(dir string) (source.Matched, error) {
	if dir == "" {
		return source.Matched{}, nil
	}
	if m, ok := s.dirs[dir]; ok {
		return m, nil
	}
	up, err := s.judgeDir(layers.Parent(dir))
	if err != nil {
		return source.Matched{}, err
	}
	m, err := s.rules.Judge(dir, true, up)
	if err == nil {
		s.dirs[dir] = m
	}
	return m, err
}

// judge is judgeDir without remembering the answer: most paths are not directories.
// mu is held.
func (s *selected) judge(name string) (source.Matched, error) {
	if m, ok := s.dirs[name]; ok || name == "" {
		return m, nil
	}
	up, err := s.judgeDir(layers.Parent(name))
	if err != nil {
		return source.Matched{}, err
	}
	return s.rules.Judge(name, true, up)
}

// visible reports whether a path that exists can be seen. mu is held.
func (s *selected) visible(name string, isDir bool) (bool, error) {
	if name == "" {
		return true, nil
	}
	var m source.Matched
	var err error
	if isDir {
		m, err = s.judgeDir(name)
	} else {
		var up source.Matched
		if up, err = s.judgeDir(layers.Parent(name)); err == nil {
			m, err = s.rules.Judge(name, false, up)
		}
	}
	switch {
	case err != nil:
		return false, err
	case !m.Hidden:
		return true, nil
	case m.Closed:
		return false, nil
	}
	return s.anyBelow(name)
}

// anyBelow reports whether something below a hidden directory can be seen.
func (s *selected) anyBelow(dir string) (bool, error) {
	if open, ok := s.open[dir]; ok {
		return open, nil
	}
	names, err := s.local.list(dir)
	if err != nil {
		if missing(err) || isPermission(err) {
			return false, nil
		}
		return false, err
	}
	open := false
	for _, n := range names {
		if open, err = s.visible(path.Join(dir, n.base), n.kind.IsDir()); err != nil {
			return false, err
		}
		if open {
			break
		}
	}
	s.open[dir] = open
	return open, nil
}

func isPermission(err error) bool {
	pe, ok := err.(*fs.PathError)
	return ok && (pe.Err == unix.EACCES || pe.Err == unix.EPERM)
}

func (s *selected) Lookup(name string) (layers.Entry, bool, error) {
	if err := s.prepare(); err != nil {
		return layers.Entry{}, false, err
	}
	// The rules come first: a file that they hide is not looked at. As it
	// is not known yet what the file is, they must hide it as either.
	s.mu.Lock()
	m, err := s.judge(name)
	s.mu.Unlock()
	if err != nil || m.Closed && m.Hidden {
		return layers.Entry{}, false, err
	}
	e, ok, err := s.local.entry(name)
	if err != nil || !ok {
		return layers.Entry{}, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ok, err = s.visible(name, e.Kind == layers.Dir)
	if err != nil || !ok {
		return layers.Entry{}, false, err
	}
	return e, true, nil
}

func (s *selected) ReadDir(dir string) ([]layers.Entry, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	names, err := s.local.list(dir)
	if err != nil {
		return nil, s.local.orChanged(dir, err)
	}
	var bases []string
	s.mu.Lock()
	for _, n := range names {
		ok, err := s.visible(path.Join(dir, n.base), n.kind.IsDir())
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		if ok {
			bases = append(bases, n.base)
		}
	}
	s.mu.Unlock()
	found, err := s.local.statAll(dir, bases)
	if err != nil {
		return nil, s.local.orChanged(dir, err)
	}
	entries := make([]layers.Entry, 0, len(found))
	for _, f := range found {
		if f != nil {
			entries = append(entries, f.entry())
		}
	}
	return entries, nil
}

func (s *selected) Resolve(name string, followLast bool) (string, error) {
	return layers.Resolve(s.Lookup, name, followLast)
}

func (s *selected) Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error) {
	r, err := s.local.openFile(e)
	if err != nil {
		return nil, err
	}
	return archive.ContextReadCloser(ctx, r), nil
}

func (s *selected) Digest(ctx context.Context, e layers.Entry) (digest.Digest, error) {
	return s.local.digest(ctx, e)
}
