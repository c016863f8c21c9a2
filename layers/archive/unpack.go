package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
)

// UnpackOptions says what the directory form of a layer looks like.
type UnpackOptions struct {
	// UserXattr marks opaque directories with user.overlay.opaque, for an
	// overlay mounted with userxattr, instead of trusted.overlay.opaque.
	UserXattr bool
	// SingleUser accepts that owners cannot be set, in a user namespace
	// that maps one user only. The tree still knows them.
	SingleUser bool
}

// Unpack makes the directory form of t below dir, which exists and is empty:
// a directory that an overlay can use as a lower one. Whiteouts become
// character devices 0:0. open returns a regular file's content, which is
// verified against the entry's digest; it is called from several goroutines.
//
// An implied directory is made as it is listed. The root, if it is listed, gets
// mode 0755 and owner 0:0: no layer has a say in that (see layers.View).
//
// Devices that may not be made (in a user namespace) are left out. Owners
// that the user namespace does not map stay those of this process; with
// SingleUser all do.
//
// Nothing in t can make Unpack write outside of dir: every directory on the
// way to a path is one that Unpack has made itself.
func Unpack(ctx context.Context, t *layers.Tree, open func(layers.Entry) (io.ReadCloser, error), dir string, o UnpackOptions) error {
	if err := t.Validate(); err != nil {
		return err
	}
	root, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	u := &unpacker{root: root, o: o, open: open, dirs: map[string]bool{"": true}, missing: map[string]bool{}}
	return errors.Join(u.all(ctx, t), unix.Close(root))
}

type unpacker struct {
	root int // the directory that everything is relative to
	o    UnpackOptions
	open func(layers.Entry) (io.ReadCloser, error)
	dirs map[string]bool // that exist
	// missing are the devices that may not be made here.
	missing map[string]bool
}

// all makes everything in the order that works: names first, contents by
// several goroutines, then hardlinks, and directories' metadata last, the
// deepest first.
func (u *unpacker) all(ctx context.Context, t *layers.Tree) error {
	if err := u.files(ctx, t); err != nil {
		return err
	}
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Kind == layers.Hardlink {
			if err := errors.Join(ctx.Err(), u.link(e)); err != nil {
				return err
			}
		}
	}
	for i := len(t.Entries) - 1; i >= 0; i-- {
		e := t.Entries[i]
		if e.Path == "" {
			e = layers.Entry{Kind: layers.Dir, Mode: 0o755, ModTime: e.ModTime}
		}
		if e.Kind == layers.Dir {
			if err := errors.Join(ctx.Err(), u.dirMetadata(&e)); err != nil {
				return err
			}
		}
	}
	return nil
}

// link makes another name of a file that is there, if it could be made.
func (u *unpacker) link(e *layers.Entry) error {
	if u.missing[e.Link] {
		return nil
	}
	return entryError(e, "link", unix.Linkat(u.root, e.Link, u.root, e.Path, 0))
}

func (u *unpacker) files(ctx context.Context, t *layers.Tree) error {
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan *layers.Entry, 64)
	for range max(2, runtime.GOMAXPROCS(0)) {
		group.Go(func() error {
			buf := make([]byte, copyBufferSize)
			for e := range work {
				if err := u.file(ctx, e, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		for i := range t.Entries {
			if err := u.name(ctx, &t.Entries[i], work); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// name makes e, or hands it on if it has content. It runs in one goroutine,
// so that parents are there before what is below them.
func (u *unpacker) name(ctx context.Context, e *layers.Entry, work chan<- *layers.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Path == "" {
		return nil
	}
	if err := u.implied(path.Dir(e.Path)); err != nil {
		return entryError(e, "mkdir", err)
	}
	switch e.Kind {
	case layers.Dir:
		u.dirs[e.Path] = true
		return entryError(e, "mkdir", unix.Mkdirat(u.root, e.Path, 0o700))
	case layers.File:
		select {
		case work <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case layers.Symlink:
		if err := unix.Symlinkat(e.Target, u.root, e.Path); err != nil {
			return entryError(e, "symlink", err)
		}
		return u.metadata(e)
	case layers.Hardlink:
		return nil // later
	case layers.Whiteout:
		return entryError(e, "mknod", unix.Mknodat(u.root, e.Path, unix.S_IFCHR, int(unix.Mkdev(0, 0))))
	case layers.Fifo:
		return u.node(e, unix.S_IFIFO, 0)
	case layers.CharDevice:
		return u.node(e, unix.S_IFCHR, unix.Mkdev(e.DevMajor, e.DevMinor))
	default:
		return u.node(e, unix.S_IFBLK, unix.Mkdev(e.DevMajor, e.DevMinor))
	}
}

// implied makes a parent that the layer does not list, with the mode that
// such a directory has in a View.
func (u *unpacker) implied(dir string) error {
	if dir == "." || u.dirs[dir] {
		return nil
	}
	if err := u.implied(path.Dir(dir)); err != nil {
		return err
	}
	u.dirs[dir] = true
	if err := unix.Mkdirat(u.root, dir, 0o755); err != nil {
		return err
	}
	return unix.Fchmodat(u.root, dir, 0o755, 0) // whatever the umask
}

// node makes a device or fifo.
func (u *unpacker) node(e *layers.Entry, kind uint32, dev uint64) error {
	if kind == unix.S_IFCHR && dev == 0 {
		return entryError(e, "mknod", errors.New("the device 0:0 means a deletion"))
	}
	err := unix.Mknodat(u.root, e.Path, kind|e.Mode&0o777, int(dev))
	if err == unix.EPERM && kind != unix.S_IFIFO {
		u.missing[e.Path] = true
		return nil
	}
	if err != nil {
		return entryError(e, "mknod", err)
	}
	return u.metadata(e)
}

// metadata sets owner, mode, attributes and time of anything but files and
// directories.
func (u *unpacker) metadata(e *layers.Entry) error {
	if err := u.chown(e); err != nil {
		return err
	}
	if e.Kind != layers.Symlink {
		if err := unix.Fchmodat(u.root, e.Path, e.Mode&0o7777, 0); err != nil {
			return entryError(e, "chmod", err)
		}
	}
	return u.setTime(e)
}

// chown forgives owners that cannot be had: outside of the user namespace's
// range (EINVAL), or any, for a single user. The user and the group are then
// tried on their own.
func (u *unpacker) chown(e *layers.Entry) error {
	err := unix.Fchownat(u.root, here(e), e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW)
	if !u.forgiven(err) {
		return entryError(e, "chown", err)
	}
	for _, ids := range [][2]int{{e.UID, -1}, {-1, e.GID}} {
		err := unix.Fchownat(u.root, here(e), ids[0], ids[1], unix.AT_SYMLINK_NOFOLLOW)
		if err != nil && !u.forgiven(err) {
			return entryError(e, "chown", err)
		}
	}
	return nil
}

func (u *unpacker) forgiven(err error) bool {
	return err == unix.EINVAL || err == unix.EPERM && u.o.SingleUser
}

func (u *unpacker) dirMetadata(e *layers.Entry) error {
	fd, err := unix.Openat(u.root, here(e), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return entryError(e, "open", err)
	}
	opaque := ""
	if e.Opaque {
		opaque = "trusted.overlay.opaque"
		if u.o.UserXattr {
			opaque = "user.overlay.opaque"
		}
	}
	return errors.Join(u.fdMetadata(fd, e, opaque), unix.Close(fd))
}

// fdMetadata sets all metadata of the open file or directory e. The owner
// comes first: a change of it takes setuid bits and capabilities away.
func (u *unpacker) fdMetadata(fd int, e *layers.Entry, opaque string) error {
	if err := u.chown(e); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, e.Mode&0o7777); err != nil {
		return entryError(e, "chmod", err)
	}
	if opaque != "" {
		if err := unix.Fsetxattr(fd, opaque, []byte("y"), 0); err != nil {
			return entryError(e, "setxattr "+opaque, err)
		}
	}
	for name, value := range e.Xattrs {
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err != nil && !unsupportedXattr(err) {
			return entryError(e, "setxattr "+name, err)
		}
	}
	return u.setTime(e)
}

func (u *unpacker) setTime(e *layers.Entry) error {
	t, err := unix.TimeToTimespec(time.Unix(0, e.ModTime))
	if err != nil {
		return entryError(e, "utimes", err)
	}
	return entryError(e, "utimes", unix.UtimesNanoAt(u.root, here(e), []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW))
}

// here is the path of e for calls that are relative to the root.
func here(e *layers.Entry) string {
	if e.Path == "" {
		return "."
	}
	return e.Path
}

// unsupportedXattr says whether an attribute could not be set for reasons
// that lie in the host, as a file system without attributes or a user
// namespace. The tree still has it.
func unsupportedXattr(err error) bool {
	return err == unix.ENOTSUP || err == unix.EPERM
}

// file makes a regular file with its content.
func (u *unpacker) file(ctx context.Context, e *layers.Entry, buf []byte) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	content, err := u.open(*e)
	if err != nil {
		return entryError(e, "open content of", err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	fd, err := unix.Openat(u.root, e.Path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return entryError(e, "create", err)
	}
	w := os.NewFile(uintptr(fd), e.Path)
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := copySparsely(ctx, w, Verify(content, ContentOf(*e)), buf); err != nil {
		return entryError(e, "write", err)
	}
	return u.fdMetadata(fd, e, "")
}

// copySparsely copies r to the empty file f and leaves holes for zeros.
func copySparsely(ctx context.Context, f *os.File, r io.Reader, buf []byte) error {
	w := NewHoleWriter(f)
	if err := copyAll(ctx, w, r, buf); err != nil {
		return err
	}
	return w.Finish()
}

func allZero(p []byte) bool {
	return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// entryError says which entry could not be made; nil stays nil.
func entryError(e *layers.Entry, op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: "/" + e.Path, Err: err}
}
