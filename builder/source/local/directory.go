// Package local serves directories of the user's, such as build contexts, as far as
// ignore files let them be seen, and remembers the digests of their files.
package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
)

// Directory is a directory of the user's: a build context. It looks at a file only
// when asked for it, and at each one once: what a build saw first is what it
// goes on with, and a file that changes meanwhile is an error rather than a
// mixture. Digests are remembered in an index beside the store, so that a
// file's content is read only when the file has changed.
//
// Files belong to 0:0 whatever their owner on disk, and have no extended
// attributes: BuildKit loses capabilities, too. A socket is an empty
// regular file. A file with several names has the device and inode as Link.
type Directory struct {
	dir       string
	root      *os.File
	indexPath string
	index     *index
	// start is when the directory was opened, by the clock of the file system
	// that holds the index, and device is that file system.
	start  int64
	device uint64

	mu   sync.Mutex
	seen map[string]*seen
	// inodes are the files with several names, by device and inode number.
	inodes map[[2]uint64]layers.Inode
	lists  map[string]*listing
}

// seen is what was at a path when it was first looked at; nil for nothing. There is one
// for every file, so it holds no layers.Entry, most of which a directory's file does
// not have.
type seen struct {
	path         string
	target       string // of a symlink
	inode        layers.Inode
	stamp        stamp
	major, minor uint32 // of a device
	mode         uint32
	kind         layers.Kind
	socket       bool
	// sum is of the content, once that was read; Directory.mu guards it.
	sum *[sha256.Size]byte
}

// entry returns the file as it would be in a layer.
func (s *seen) entry() layers.Entry {
	e := layers.Entry{Path: s.path, Kind: s.kind, Mode: s.mode, ModTime: s.stamp.mtime, Target: s.target, Inode: s.inode, DevMajor: s.major, DevMinor: s.minor}
	if s.kind == layers.File && !s.socket {
		e.Size = s.stamp.size
	}
	return e
}

// stamp changes when a file does. Times are in nanoseconds; mtime is as in an entry.
type stamp struct {
	size, mtime, ctime int64
	ino, dev           uint64
}

// record is a digest and the state of the file that it is of.
type record struct {
	stamp  stamp
	digest [sha256.Size]byte
}

// Open opens dir. Digests of its files are remembered in a file below
// indexDir, or not at all when that is "".
func Open(dir, indexDir string) (*Directory, error) {
	real, err := filepath.Abs(dir)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return nil, fmt.Errorf("opening directory %s: %w", dir, err)
	}
	fd, err := unix.Open(real, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening directory %s: %w", dir, err)
	}
	l := &Directory{
		dir: real, root: os.NewFile(uintptr(fd), real),
		seen: map[string]*seen{}, lists: map[string]*listing{}, inodes: map[[2]uint64]layers.Inode{},
	}
	if indexDir == "" {
		return l, nil
	}
	sum := sha256.Sum256([]byte(real))
	l.indexPath = filepath.Join(indexDir, fmt.Sprintf("%x", sum[:16]))
	if err := l.clock(indexDir); err != nil {
		l.root.Close()
		return nil, fmt.Errorf("preparing the index of %s: %w", dir, err)
	}
	l.index = loadIndex(l.indexPath)
	return l, nil
}

// clock asks the file system of the index for its time, as git does: that is the
// clock which the times of files are to be compared with.
func (l *Directory) clock(indexDir string) error {
	if err := os.MkdirAll(indexDir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(indexDir, ".clock-")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	l.start, l.device = st.Mtim.Nano(), uint64(st.Dev)
	return nil
}

// slack is for files on file systems other than the one the index is on: their
// clock may tick as rarely as every two seconds.
const slack = 2 * time.Second

// settled reports whether a file had been in a state long enough when the directory
// was opened, so that every later change is certain to show in its stamp.
func (l *Directory) settled(s stamp) bool {
	if s.dev != l.device {
		return s.ctime < l.start-slack.Nanoseconds()
	}
	return s.ctime < l.start
}

// Dir is the directory's path, without symlinks.
func (l *Directory) Dir() string { return l.dir }

// Close writes the index back and releases the directory.
func (l *Directory) Close() error {
	err := l.saveIndex()
	if l.index != nil {
		l.index.close()
	}
	return errors.Join(err, l.root.Close())
}

// open opens what is at a path without following any symlink: paths have been
// resolved before, so a link there now was put there meanwhile.
func (l *Directory) open(name string, flags uint64) (*os.File, error) {
	fd, err := l.openFD(name, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(l.dir, name)), nil
}

func (l *Directory) openFD(name string, flags uint64) (int, error) {
	if name == "" {
		name = "."
	}
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NONBLOCK // it may be a pipe that nobody writes to
	}
	fd, err := unix.Openat2(int(l.root.Fd()), name, &unix.OpenHow{
		Flags: flags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err == unix.ENOSYS {
		// A kernel before 5.6, or a container that does not know the call.
		fd, err = unix.Openat(int(l.root.Fd()), name, int(flags), 0)
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: filepath.Join(l.dir, name), Err: err}
	}
	return fd, nil
}

// lookup returns what is at a path, and nil when nothing is.
func (l *Directory) lookup(name string) (*seen, error) {
	l.mu.Lock()
	s, known := l.seen[name]
	l.mu.Unlock()
	if known {
		return s, nil
	}
	dir, err := l.open(layers.Parent(name), unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		defer dir.Close()
		if name == "" {
			s, err = l.stat(dir, "", ".")
		} else {
			s, err = l.stat(dir, name, path.Base(name))
		}
	}
	if err != nil && !missing(err) {
		return nil, err
	}
	return l.remember(name, s), nil
}

// remember keeps s as what is at a path, unless somebody else was faster.
func (l *Directory) remember(name string, s *seen) *seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first, known := l.seen[name]; known {
		return first
	}
	l.seen[name] = s
	return s
}

// missing reports whether an error says that there is nothing at a path.
func missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// openFile opens a file that was seen, for reading once. The reader fails when the
// file is not, or does not stay, what it was.
func (l *Directory) openFile(e layers.Entry) (io.ReadCloser, error) {
	s, err := l.regular(e)
	if err != nil {
		return nil, err
	}
	if s.socket {
		return io.NopCloser(eof{}), nil
	}
	r, err := l.steady(e.Path, s.stamp)
	if err != nil {
		return nil, err
	}
	known, _, ok := l.recorded(e.Path)
	if ok && !l.settled(s.stamp) {
		// It changed so lately that it may have changed again since it
		// was hashed, without any sign.
		r.hash, r.digest = sha256.New(), known.digest
	}
	return r, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// digest returns the digest of a regular file's content. It fails with a
// ChangedError when the file that was hashed is not described by e any more: e
// would then decide a step's key, and what lies there now the step's result.
func (l *Directory) digest(ctx context.Context, e layers.Entry) (digest.Digest, error) {
	s, err := l.regular(e)
	if err != nil {
		return "", err
	}
	if s.socket {
		return digest.FromBytes(nil), nil
	}
	var r record
	if s, r, err = l.content(ctx, e.Path, s); err != nil {
		return "", err
	}
	if s.kind != e.Kind || s.mode != e.Mode || s.inode != e.Inode {
		return "", &ChangedError{Path: e.Path}
	}
	return digest.Digest("sha256:" + hex.EncodeToString(r.digest[:])), nil
}

// regular returns what was seen of a regular file.
func (l *Directory) regular(e layers.Entry) (*seen, error) {
	s, err := l.lookup(e.Path)
	if err != nil {
		return nil, err
	}
	if s == nil || s.kind != layers.File {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(l.dir, e.Path), Err: fs.ErrNotExist}
	}
	return s, nil
}
