package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// madeSuffix ends the name of the file beside a directory form that has its mark:
// only the directory that was made here counts, and no copy of it.
const madeSuffix = ".made"

// ErrChanged is what reading a directory form yields that somebody has changed.
var ErrChanged = errors.New("its directory in the store was changed")

// errDiffers is about a file in a directory form that is not what was stored.
var errDiffers = errors.New("not as it was stored")

// damage says what is not as it was stored.
type damage string

func (d damage) Error() string { return string(d) }

// Is makes it an errDiffers.
func (damage) Is(target error) bool { return target == errDiffers }

// dirs are the directory forms that this process knows.
type dirs struct {
	mu    sync.Mutex
	known map[string]*knownDir
}

type knownDir struct {
	archive.Mark
	mu sync.Mutex
	// sound says that what is in it was compared, or made by this process.
	sound bool
}

func (d *dirs) get(dir string) *knownDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[dir]
}

func (d *dirs) put(dir string, m archive.Mark, sound bool) *knownDir {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := &knownDir{Mark: m, sound: sound}
	d.known[dir] = k
	return k
}

// moved says that the directory from, with the forms in it, is now called to.
func (d *dirs) moved(from, to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for dir, k := range d.known {
		if name, ok := strings.CutPrefix(dir, from+"/"); ok {
			delete(d.known, dir)
			d.known[to+"/"+name] = k
		}
	}
}

// forget drops the directories whose paths begin with path.
func (d *dirs) forget(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for dir := range d.known {
		if strings.HasPrefix(dir, path) {
			delete(d.known, dir)
		}
	}
}

// knownDir returns what is known of a directory form, nil if there is none or it
// is not the one that was made here. An error says nothing about the directory.
func (s *Store) knownDir(dir string) (*knownDir, error) {
	if k := s.dirs.get(dir); k != nil {
		if made, err := k.Is(dir); err != nil || made {
			return k, err
		}
		s.dirs.forget(dir)
	}
	m, err := readMark(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, folder.ErrCorrupt) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if made, err := m.Is(dir); err != nil || !made || !s.hasIDs(dir, m) {
		return nil, err
	}
	return s.dirs.put(dir, m, false), nil
}

// hasIDs reports whether this process has the IDs with which dir was made. With
// others its files have other owners, may not be readable, or belong to root although
// their owners exist now. Root of every user namespace can read what belongs to one
// user.
func (s *Store) hasIDs(dir string, m archive.Mark) bool {
	return m.IDs == "" || s.opt.IDs == "" || m.IDs == s.opt.IDs || isOneUsers(dir) && !s.opt.SingleUser
}

// isOneUsers reports whether dir is a form in which one user owns everything.
func isOneUsers(dir string) bool { return strings.HasPrefix(filepath.Base(dir), oneUserName) }

// markOf is the mark of the complete directory dir, made by this process.
func (s *Store) markOf(ctx context.Context, dir string) (archive.Mark, error) {
	m, err := archive.MarkOf(ctx, dir, true)
	m.IDs = s.opt.IDs
	return m, err
}

// isMade reports whether dir is a directory form that was made here.
func (s *Store) isMade(dir string) (bool, error) {
	k, err := s.knownDir(dir)
	return k != nil, err
}

func readMark(dir string) (archive.Mark, error) {
	var m archive.Mark
	data, err := os.ReadFile(dir + madeSuffix)
	if err != nil {
		return m, err
	}
	payload, err := folder.Unseal(data)
	if err == nil && json.Unmarshal(payload, &m) != nil {
		err = folder.ErrCorrupt
	}
	return m, err
}

// markMade notes that dir, which lies in its place in a layer's folder, is the
// complete directory that m describes.
func (s *Store) markMade(dir string, m archive.Mark) error {
	if err := m.Renamed(dir); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := s.writeFile(dir+madeSuffix, folder.Seal(data)); err != nil {
		return err
	}
	s.dirs.put(dir, m, true)
	return nil
}

// keepDir makes the finished directory tmp the form dir of a layer, in place of
// one that does not count. The caller holds the layer's lock.
func (s *Store) keepDir(ctx context.Context, id layers.ID, tmp, dir string) error {
	m, err := s.markOf(ctx, tmp)
	if err != nil {
		return err
	}
	s.dirs.forget(dir)
	if err := removeIfThere(dir + madeSuffix); err != nil {
		return err
	}
	if err := s.setAside(id, dir); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return s.markMade(dir, m)
}

// setAsideName is the folder of what was found to be damaged while others may have
// it mounted, or may be reading it.
const setAsideName = "replaced"

// setAside takes what is at path, of a layer or all of it, out of the way. A missing
// path is not an error. Whoever has it mounted goes on with it, and finds in the end
// that it was replaced.
func (s *Store) setAside(id layers.ID, path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := hostfile.Private(filepath.Join(s.root, setAsideName)); err != nil {
		return err
	}
	to, err := os.MkdirTemp(filepath.Join(s.root, setAsideName), string(id)+".")
	if err != nil {
		return err
	}
	return os.Rename(path, filepath.Join(to, filepath.Base(path)))
}

// Watched are directories that a command reads by way of the kernel, which compares
// nothing.
type Watched struct {
	s    *Store
	dirs []string
	were []*knownDir
}

// Watch returns directories that Dir returned, before a command reads them.
func (s *Store) Watch(dirs []string) (*Watched, error) {
	w := &Watched{s: s, dirs: dirs}
	for _, dir := range dirs {
		k, err := s.knownDir(dir)
		if err != nil {
			return nil, err
		}
		if k == nil {
			return nil, s.changed(dir, archive.Mark{}, errReplaced)
		}
		w.were = append(w.were, k)
	}
	return w, nil
}

// Check compares the directories with what they were when they were made, by the
// metadata of everything in them. Each is looked at once in a process. One that was
// changed is made again when it is next wanted.
func (w *Watched) Check(ctx context.Context) error {
	var first error
	for i, dir := range w.dirs {
		// All of them: the next build shall work.
		if err := w.s.checkDir(ctx, dir, w.were[i]); first == nil {
			first = err
		}
	}
	return first
}

// Still fails when one of the directories is not the one any more that it was.
func (w *Watched) Still() error {
	for i, dir := range w.dirs {
		made, err := w.were[i].Is(dir)
		if err == nil && !made {
			err = w.s.changed(dir, w.were[i].Mark, errReplaced)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errReplaced is about a directory that is another one than it was.
var errReplaced = fmt.Errorf("%w: it was replaced", errDiffers)

func (s *Store) checkDir(ctx context.Context, dir string, k *knownDir) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sound {
		return nil
	}
	same, err := k.Unchanged(ctx, dir)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && !same {
		err = s.difference(dir)
	}
	if err != nil {
		return s.changed(dir, k.Mark, err)
	}
	k.sound = true
	return nil
}

// changed is the error about a directory form in which reason shows that it was
// changed. Any other reason is returned as it is.
func (s *Store) changed(dir string, m archive.Mark, reason error) error {
	if !isDamage(reason) {
		return reason
	}
	l := layers.Layer{ID: layers.ID(filepath.Base(filepath.Dir(dir)))}
	// Not as fs.ErrNotExist: that would be a path that the layer does not have.
	return ofLayer(l, errors.Join(fmt.Errorf("%w: %v", ErrChanged, reason), s.distrust(dir, m)))
}

// isDamage reports whether err shows that something is not what was stored. Any other
// error, of a disk or of a lack of open files, says nothing about it.
func isDamage(err error) bool {
	for _, shown := range []error{
		errDiffers, folder.ErrCorrupt, layers.ErrTreeData, fs.ErrNotExist, unix.ENOTDIR, unix.EISDIR, unix.ELOOP,
	} {
		if errors.Is(err, shown) {
			return true
		}
	}
	return false
}

// difference finds what was changed in a directory form.
func (s *Store) difference(dir string) error {
	t, err := s.tree(layers.ID(filepath.Base(filepath.Dir(dir))))
	if err != nil {
		return fmt.Errorf("%w: %w", errDiffers, err)
	}
	for _, e := range t.Entries {
		if err := compare(dir, e); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: a name, a mode, an owner or a time is another", errDiffers)
}

// compare holds type, size and time of an entry against a directory form.
func compare(dir string, e layers.Entry) error {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	if e.Path == "" || e.Kind == layers.CharDevice || e.Kind == layers.BlockDevice {
		return nil // devices cannot be created in a user namespace
	}
	fd, err := unix.Openat2(root, e.Path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	return stored(f, e, math.MaxInt64)
}

// openStored opens a regular file in a directory form that was made here. It must be
// as the tree says: a file of which no digest is known must have its size and time,
// and must not have been touched since the directory was made. Otherwise the error
// is ErrChanged.
func (s *Store) openStored(dir string, e layers.Entry) (io.ReadCloser, error) {
	k, err := s.knownDir(dir)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, s.changed(dir, archive.Mark{}, errReplaced)
	}
	f, err := openBelow(dir, e.Path)
	if err != nil {
		return nil, s.changed(dir, k.Mark, err)
	}
	if err := stored(f, e, k.Latest); err != nil {
		return nil, errors.Join(s.changed(dir, k.Mark, err), f.Close())
	}
	return f, nil
}

// kinds are the types of files that entries are in a directory form. A hardlink may
// be one to anything.
var kinds = map[layers.Kind]uint32{
	layers.File: unix.S_IFREG, layers.Dir: unix.S_IFDIR, layers.Symlink: unix.S_IFLNK, layers.Fifo: unix.S_IFIFO, layers.Whiteout: unix.S_IFCHR,
}

// stored says how a file of a directory form differs from its entry. latest is the
// youngest ctime that a file without a digest may have: the kernel sets it with each
// change.
func stored(f *os.File, e layers.Entry, latest int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	switch {
	case e.Kind != layers.Hardlink && st.Mode&unix.S_IFMT != kinds[e.Kind]:
		return fmt.Errorf("%q: %w: another type", e.Path, errDiffers)
	case e.Kind == layers.File && st.Size != e.Size:
		return fmt.Errorf("%q: %w: %d bytes, not %d", e.Path, errDiffers, st.Size, e.Size)
	case e.Place == 0 && e.Kind == layers.File && archive.ModTime(&st) != e.ModTime:
		return fmt.Errorf("%q: %w: another time", e.Path, errDiffers)
	case e.Place == 0 && e.Kind == layers.File && time.Unix(st.Ctim.Unix()).UnixNano() > latest:
		return fmt.Errorf("%q: %w: it was touched since", e.Path, errDiffers)
	}
	return nil
}
