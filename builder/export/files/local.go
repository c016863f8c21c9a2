package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// Directory is where files are written to.
type Directory struct {
	Dest string
	// Delete removes what else is there.
	Delete bool
	// Warn gets what people should know.
	Warn func(text string)
}

// WriteTo writes the files into a directory, over what is there: all belong to the
// user, as with BuildKit. A file gets its name when it is complete; the directory as a
// whole is not exchanged at once. It returns the devices that were left out, since only
// root may make them.
func (f *Files) WriteTo(ctx context.Context, d Directory) (skipped []string, err error) {
	if err := os.MkdirAll(d.Dest, 0o755); err != nil {
		return nil, place.Error(d.Dest, err)
	}
	root, err := place.OpenDir(d.Dest)
	if err != nil {
		return nil, place.Error(d.Dest, err)
	}
	defer root.Close()
	release, err := place.Turns{Store: f.store, Wait: place.MaxWait, Warn: d.Warn}.Take(ctx, root)
	if err != nil {
		return nil, err
	}
	defer release()
	l := &writer{root: root, written: map[string]bool{}}
	if err := l.removeTemps("."); err != nil {
		return nil, err
	}
	for _, r := range f.roots {
		err := l.write(ctx, r, func(ctx context.Context, e layers.Entry, layer int) (io.ReadCloser, error) {
			return r.open(ctx, f.store.OpenFile, e, layer)
		})
		if err != nil {
			return nil, err
		}
	}
	l.exposed.warn(d.Dest, d.Warn)
	if d.Delete {
		err = l.deleteOthers(ctx)
	}
	return l.skipped, err
}

// writer writes files below a directory; no symlink leads it outside.
type writer struct {
	root    *os.Root
	written map[string]bool
	skipped []string
	exposed exposed
	dirs    []layers.Entry
}

// localCopies is how many files are copied at once.
const localCopies = 4

func (l *writer) write(ctx context.Context, r rootfs, open func(context.Context, layers.Entry, int) (io.ReadCloser, error)) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(localCopies)
	var links []layers.Entry
	l.dirs = nil
	err := r.walk(func(e layers.Entry, layer int) error {
		if groupCtx.Err() != nil {
			return context.Cause(groupCtx)
		}
		l.written[e.Path] = true
		if e.Kind == layers.File {
			l.exposed.add(e)
		}
		switch e.Kind {
		case layers.Dir:
			return named(e, l.dir(e))
		case layers.Hardlink:
			links = append(links, e)
			return nil
		case layers.File:
			group.Go(func() error { return named(e, l.file(groupCtx, e, layer, open)) })
			return nil
		}
		return named(e, l.special(e))
	})
	// The reason is that of the copy that failed, not that the walk ended.
	if werr := group.Wait(); werr != nil {
		return werr
	}
	if err != nil {
		return err
	}
	for _, e := range links {
		if err := errors.Join(ctx.Err(), l.link(e)); err != nil {
			return named(e, err)
		}
	}
	// From the deepest up: writing into a directory changes its time, and
	// its mode may forbid it.
	for _, e := range slices.Backward(l.dirs) {
		if err := errors.Join(ctx.Err(), l.finish(e.Path, e)); err != nil {
			return named(e, err)
		}
	}
	return nil
}

// link makes another name of a file, if that could be made.
func (l *writer) link(e layers.Entry) error {
	if slices.Contains(l.skipped, e.Link) {
		l.skipped = append(l.skipped, e.Path)
		return nil
	}
	return l.place(e.Path, func(tmp string) error { return l.root.Link(e.Link, tmp) })
}

func named(e layers.Entry, err error) error {
	if err != nil {
		return fmt.Errorf("file %q: %w", e.Path, err)
	}
	return nil
}

// dir makes a directory, or uses the one that is there. What else is there
// goes, also a symlink to a directory.
func (l *writer) dir(e layers.Entry) error {
	l.dirs = append(l.dirs, e)
	info, err := l.root.Lstat(e.Path)
	switch {
	case err == nil && info.IsDir():
		if mode := info.Mode(); mode&0o700 != 0o700 {
			if err := l.root.Chmod(e.Path, mode|0o700); err != nil {
				return err
			}
		}
		return l.removeTemps(e.Path)
	case err == nil:
		if err := l.root.Remove(e.Path); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return l.root.Mkdir(e.Path, 0o700)
}

func (l *writer) file(ctx context.Context, e layers.Entry, layer int, open func(context.Context, layers.Entry, int) (io.ReadCloser, error)) error {
	r, err := open(ctx, e, layer)
	if err != nil {
		return err
	}
	defer r.Close()
	release := func() {}
	defer func() { release() }()
	return l.place(e.Path, func(tmp string) error {
		f, err := l.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if release, err = place.KeepLocked(f); err != nil {
			return errors.Join(err, f.Close())
		}
		_, err = io.Copy(f, archive.ContextReader(ctx, r))
		if err == nil {
			setXattrs(f, e)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		return l.finish(tmp, e)
	})
}

// setXattrs sets those that the file system takes; which ones it does is not
// for us to decide, and BuildKit does not ask either.
func setXattrs(f *os.File, e layers.Entry) {
	for name, value := range e.Xattrs {
		_ = unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0)
	}
}

// special makes symlinks, pipes and devices.
func (l *writer) special(e layers.Entry) error {
	err := l.place(e.Path, func(tmp string) error {
		if e.Kind == layers.Symlink {
			return errors.Join(l.root.Symlink(e.Target, tmp), l.setTime(tmp, e))
		}
		kinds := map[layers.Kind]uint32{
			layers.Fifo: unix.S_IFIFO, layers.CharDevice: unix.S_IFCHR, layers.BlockDevice: unix.S_IFBLK,
		}
		err := l.inDir(tmp, func(dir int, name string) error {
			device := unix.Mkdev(e.DevMajor, e.DevMinor)
			return unix.Mknodat(dir, name, kinds[e.Kind]|0o600, int(device))
		})
		if err != nil {
			return err
		}
		return l.finish(tmp, e)
	})
	if err == nil {
		l.exposed.add(e)
	}
	if errors.Is(err, fs.ErrPermission) && (e.Kind == layers.CharDevice || e.Kind == layers.BlockDevice) {
		l.skipped = append(l.skipped, e.Path)
		return nil
	}
	return err
}

// localTemp is how temporary names begin.
const localTemp = ".sinter-"

// removeTemps removes what a killed build left in a directory in which this one
// has written nothing yet. Living ones take turns; should one not have waited, the
// files that it writes are locked.
func (l *writer) removeTemps(dir string) error {
	d, err := l.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		random, ok := strings.CutPrefix(name, localTemp)
		if !ok || !place.IsRandom(random) || l.written[path.Join(dir, name)] {
			continue
		}
		if err := l.removeTemp(d, path.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeTemp removes what is at name, in the open directory d.
func (l *writer) removeTemp(d *os.File, name string) error {
	info, err := l.root.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		return place.RemoveUnheld(int(d.Fd()), path.Base(name))
	}
	return l.root.Remove(name)
}

// place lets make write under a temporary name, which then becomes name.
func (l *writer) place(name string, make func(tmp string) error) error {
	tmp := path.Join(path.Dir(name), localTemp+place.Random())
	err := make(tmp)
	if err == nil {
		err = l.root.Rename(tmp, name)
		if info, serr := l.root.Lstat(name); err != nil && serr == nil && info.IsDir() {
			if err = l.root.RemoveAll(name); err == nil {
				err = l.root.Rename(tmp, name)
			}
		}
	}
	// Renaming one name of a file to another of the same file leaves both.
	if rerr := l.root.Remove(tmp); err == nil && rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = rerr
	}
	return err
}

// finish sets mode and time.
func (l *writer) finish(name string, e layers.Entry) error {
	if err := l.root.Chmod(name, layers.FileMode(e.Mode)); err != nil {
		return err
	}
	return l.setTime(name, e)
}

func (l *writer) setTime(name string, e layers.Entry) error {
	return l.inDir(name, func(dir int, base string) error {
		at := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(e.ModTime)}
		return unix.UtimesNanoAt(dir, base, at, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// inDir calls do with the directory that holds name.
func (l *writer) inDir(name string, do func(dir int, base string) error) error {
	dir, err := l.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(do(int(dir.Fd()), path.Base(name)), dir.Close())
}

// deleteOthers removes what was not written.
func (l *writer) deleteOthers(ctx context.Context) error {
	return fs.WalkDir(l.root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil || p == "." || l.written[p] {
			return err
		}
		if err := l.root.RemoveAll(p); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}
