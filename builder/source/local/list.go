package local

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
)

// listing is what a directory was found to hold.
type listing struct {
	once  sync.Once
	names []name
	err   error
}

// name is one name in a directory, with the type that the directory itself
// tells; the file has not been looked at.
type name struct {
	base string
	kind fs.FileMode
}

// list returns the names in a directory, sorted.
func (l *Directory) list(dir string) ([]name, error) {
	l.mu.Lock()
	li := l.lists[dir]
	if li == nil {
		li = &listing{}
		l.lists[dir] = li
	}
	l.mu.Unlock()
	li.once.Do(func() { li.names, li.err = l.readNames(dir) })
	return li.names, li.err
}

func (l *Directory) readNames(dir string) ([]name, error) {
	f, err := l.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	names := make([]name, len(found))
	for i, d := range found {
		names[i] = name{base: d.Name(), kind: d.Type()}
	}
	slices.SortFunc(names, func(a, b name) int { return strings.Compare(a.base, b.base) })
	return names, nil
}

// batch is how many files one goroutine looks at.
const batch = 64

// statAll looks at the files called bases in dir. Those that have vanished are
// nil.
func (l *Directory) statAll(dir string, bases []string) ([]*seen, error) {
	found := make([]*seen, len(bases))
	f, err := l.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if len(bases) <= batch {
		return found, l.statSome(f, dir, bases, found)
	}
	var group errgroup.Group
	for i := 0; i < len(bases); i += batch {
		end := min(i+batch, len(bases))
		group.Go(func() error { return l.statSome(f, dir, bases[i:end], found[i:end]) })
	}
	return found, group.Wait()
}

func (l *Directory) statSome(f *os.File, dir string, bases []string, found []*seen) error {
	for i, base := range bases {
		p := path.Join(dir, base)
		l.mu.Lock()
		s, known := l.seen[p]
		l.mu.Unlock()
		if !known {
			var err error
			if s, err = l.stat(f, p, base); err != nil && !missing(err) {
				return err
			}
			s = l.remember(p, s)
		}
		found[i] = s
	}
	return nil
}

// orChanged returns err, or a ChangedError when err says that a directory is not
// there which was seen before.
func (l *Directory) orChanged(dir string, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.seen[dir]; missing(err) && s != nil && s.kind == layers.Dir {
		return &ChangedError{Path: cmp.Or(dir, ".")}
	}
	return err
}
