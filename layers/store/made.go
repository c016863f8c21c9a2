package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
)

// madeSuffix ends the name of the file beside a directory form that has its mark:
// only the directory that was made here counts, and no copy of it.
const madeSuffix = ".made"

// ErrChanged is what reading a directory form yields that somebody has changed.
var ErrChanged = errors.New("its directory in the store was changed")

// errDiffers is about a file in a directory form that is not what was stored.
var errDiffers = errors.New("not as it was stored")

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
// is not the one that was made here.
func (s *Store) knownDir(dir string) *knownDir {
	k := s.dirs.get(dir)
	if k == nil {
		m, err := readMark(dir)
		if err != nil {
			return nil
		}
		k = s.dirs.put(dir, m, false)
	}
	if !k.Is(dir) {
		s.dirs.forget(dir)
		return nil
	}
	return k
}

// isMade reports whether dir is a directory form that was made here.
func (s *Store) isMade(dir string) bool { return s.knownDir(dir) != nil }

func readMark(dir string) (archive.Mark, error) {
	var m archive.Mark
	data, err := os.ReadFile(dir + madeSuffix)
	if err != nil {
		return m, err
	}
	payload, err := unseal(data)
	if err == nil {
		err = json.Unmarshal(payload, &m)
	}
	return m, err
}

// markMade notes that dir, which lies in its place in a layer's folder, was made
// here, and is complete.
func (s *Store) markMade(ctx context.Context, dir string) error {
	m, err := archive.MarkOf(ctx, dir, true)
	if err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := s.writeFile(dir+madeSuffix, seal(data)); err != nil {
		return err
	}
	s.dirs.put(dir, m, true)
	return nil
}

// keepDir makes the finished directory tmp the form dir of a layer, in place of
// one that does not count. The caller holds the layer's lock.
func (s *Store) keepDir(ctx context.Context, tmp, dir string) error {
	if err := s.removeDir(dir); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return s.markMade(ctx, dir)
}

// removeDir removes a directory form.
func (s *Store) removeDir(dir string) error {
	if err := s.distrust(dir); err != nil {
		return err
	}
	to, err := s.TempDir("removed-")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(to, "fs")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return folder.RemoveAll(to)
}

// distrust has a directory form dirMark again when it is next wanted.
func (s *Store) distrust(dir string) error {
	s.dirs.forget(dir)
	return removeIfThere(dir + madeSuffix)
}

// CheckDirs compares directories that Dir returned with what they were when they
// were made, by the metadata of everything in them: a command reads them by way of
// the kernel, which compares nothing. Each is looked at once in a process. One
// that was changed is made again when it is next wanted.
func (s *Store) CheckDirs(ctx context.Context, dirs []string) error {
	for _, dir := range dirs {
		if err := s.checkDir(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) checkDir(ctx context.Context, dir string) error {
	k := s.knownDir(dir)
	if k == nil {
		return s.changed(dir, fmt.Errorf("%w: it was replaced", errDiffers))
	}
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
		return s.changed(dir, err)
	}
	k.sound = true
	return nil
}

// changed is the error about a directory form in which reason shows that it was
// changed. Any other reason is returned as it is.
func (s *Store) changed(dir string, reason error) error {
	evidence := errors.Is(reason, errDiffers) || errors.Is(reason, fs.ErrNotExist) ||
		errors.Is(reason, unix.ENOTDIR) || errors.Is(reason, unix.ELOOP)
	if !evidence {
		return reason
	}
	l := layers.Layer{ID: layers.ID(filepath.Base(filepath.Dir(dir)))}
	// Not as fs.ErrNotExist: that would be a path that the layer does not have.
	return ofLayer(l, errors.Join(fmt.Errorf("%w: %v", ErrChanged, reason), s.distrust(dir)))
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
		return nil // in a user namespace there are no devices
	}
	fd, err := unix.Openat2(root, e.Path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	return stored(f, e)
}

// openStored opens a regular file in a directory form, which must be as the tree
// says: a file of which no digest is known must at least have its size and time.
func openStored(dir string, e layers.Entry) (io.ReadCloser, error) {
	f, err := openBelow(dir, e.Path)
	if err != nil {
		return nil, err
	}
	if err := stored(f, e); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// kinds are the types of files that entries are in a directory form. A hardlink may
// be one to anything.
var kinds = map[layers.Kind]uint32{
	layers.File: unix.S_IFREG, layers.Dir: unix.S_IFDIR, layers.Symlink: unix.S_IFLNK, layers.Fifo: unix.S_IFIFO, layers.Whiteout: unix.S_IFCHR,
}

// stored says how a file of a directory form differs from its entry.
func stored(f *os.File, e layers.Entry) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	switch {
	case e.Kind != layers.Hardlink && st.Mode&unix.S_IFMT != kinds[e.Kind]:
		return fmt.Errorf("%q: %w: another type", e.Path, errDiffers)
	case e.Kind == layers.File && st.Size != e.Size:
		return fmt.Errorf("%q: %w: %d bytes, not %d", e.Path, errDiffers, st.Size, e.Size)
	case e.Offset == -1 && e.Kind == layers.File && archive.ModTime(&st) != e.ModTime:
		return fmt.Errorf("%q: %w: another time", e.Path, errDiffers)
	}
	return nil
}
