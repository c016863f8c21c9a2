package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
)

// WalkUpper makes the tree of what a command left in the upper directory of
// an overlay. dir is read and not changed; it must not be mounted any more,
// and the overlay must have been made without redirected directories.
//
// lower is what the command saw below: entries that the overlay copied up
// and nobody changed, and whiteouts that hide nothing, are left out.
// A directory is unchanged if its mode, owner and attributes are (a
// new time alone does not count, as in BuildKit); it is kept if something below it
// is, so that a layer lists the parents of all it has. A file is unchanged if
// also its time, size and content are; openLower gives the content below.
// The root itself is never listed; sockets are not either.
//
// Files have no Place and no Sum. Owners that this user namespace
// does not map, and that Unpack could therefore not set below, are those of
// lower.
func WalkUpper(ctx context.Context, dir string, lower *layers.View, openLower func(layer int, e layers.Entry) (io.ReadCloser, error)) (*layers.Tree, error) {
	ids, err := readIDMaps()
	if err != nil {
		return nil, fmt.Errorf("reading upper directory: %w", err)
	}
	w := &upperWalk{lower: lower, openLower: openLower, ids: ids, links: make(map[inode][]int)}
	root, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reading upper directory: %w", &os.PathError{Op: "open", Path: dir, Err: err})
	}
	if err := w.dir(ctx, root, "", false); err != nil {
		return nil, fmt.Errorf("reading upper directory: %w", err)
	}
	return w.tree(), nil
}

type upperWalk struct {
	lower     *layers.View
	openLower func(int, layers.Entry) (io.ReadCloser, error)
	ids       idMaps
	found     layers.EncodedTree
	changed   []bool          // which of found differ from what is below
	links     map[inode][]int // indexes in found of files with several names
	buf       [2][]byte
}

type inode struct{ dev, ino uint64 }

// dir adds what is in the directory fd, which it closes. What is in a fresh
// directory has nothing below it.
func (w *upperWalk) dir(ctx context.Context, fd int, p string, fresh bool) (err error) {
	f := os.NewFile(uintptr(fd), "/"+p)
	defer func() { err = errors.Join(err, f.Close()) }()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.entry(ctx, fd, layers.Child(p, name), name, fresh); err != nil {
			return fmt.Errorf("entry %q: %w", "/"+layers.Child(p, name), err)
		}
	}
	return nil
}

func (w *upperWalk) entry(ctx context.Context, parent int, p, name string, fresh bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	e, err := w.describe(parent, p, name, &st)
	if err != nil {
		return err
	}
	below, layer, exists := w.lower.Lookup(p)
	exists = exists && !fresh
	if e.Kind == layers.Whiteout {
		if exists {
			w.add(e, true)
		}
		return nil
	}
	if exists {
		w.ids.restore(&e, below)
	}
	// An overlay calls every new directory opaque.
	e.Opaque = e.Opaque && exists && below.Kind == layers.Dir
	same := exists && sameMetadata(&e, &below)
	if same && e.Kind == layers.File {
		if same, err = w.sameContent(ctx, parent, name, layer, below); err != nil {
			return err
		}
	}
	if e.Kind != layers.Dir && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		w.links[key] = append(w.links[key], w.found.Len())
	}
	w.add(e, !same)
	if e.Kind != layers.Dir {
		return nil
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return w.dir(ctx, fd, p, fresh || e.Opaque)
}

func (w *upperWalk) add(e layers.Entry, changed bool) {
	w.found.Append(e)
	w.changed = append(w.changed, changed)
}

// describe makes the entry of one file.
func (w *upperWalk) describe(parent int, p, name string, st *unix.Stat_t) (layers.Entry, error) {
	e := EntryOfStat(st)
	e.Path = p
	switch {
	case e.Kind == layers.CharDevice && st.Rdev == 0:
		return layers.Entry{Path: p, Kind: layers.Whiteout}, nil
	case e.Kind == layers.Symlink:
		target := make([]byte, maxPath+1)
		n, err := unix.Readlinkat(parent, name, target)
		if err != nil {
			return e, err
		}
		e.Target = string(target[:n])
		return e, nil
	case e.Kind != layers.File && e.Kind != layers.Dir:
		return e, nil
	}
	return e, readXattrs(&e, "/proc/self/fd/"+strconv.Itoa(parent)+"/"+name)
}

// tree puts together what is kept: changed entries, all names of a file of
// which one has changed, and parents.
func (w *upperWalk) tree() *layers.Tree {
	t := w.found.Decode()
	w.found = layers.EncodedTree{}
	for _, names := range w.links {
		changed := slices.ContainsFunc(names, func(i int) bool { return w.changed[i] })
		for n, i := range names {
			w.changed[i] = changed
			if n > 0 {
				e := &t.Entries[i]
				*e = e.LinkTo(t.Entries[names[0]].Path)
			}
		}
	}
	last := ""
	for i, e := range slices.Backward(t.Entries) {
		w.changed[i] = w.changed[i] || e.Kind == layers.Dir && last != "" && layers.Under(last, e.Path)
		if w.changed[i] {
			last = e.Path
		}
	}
	kept := t.Entries[:0]
	for i, e := range t.Entries {
		if w.changed[i] {
			kept = append(kept, e)
		}
	}
	if len(kept) < len(t.Entries) {
		kept = slices.Clone(kept) // the rest may be most of it
	}
	t.Entries = kept
	return t
}

// sameMetadata says whether e could be an unchanged copy of below.
func sameMetadata(e, below *layers.Entry) bool {
	switch {
	case e.Kind != below.Kind || e.Opaque || e.UID != below.UID || e.GID != below.GID,
		e.Mode != below.Mode && e.Kind != layers.Symlink,
		e.DevMajor != below.DevMajor || e.DevMinor != below.DevMinor,
		!sameXattrs(e.Xattrs, below.Xattrs):
		return false
	case e.Kind == layers.Dir:
		return true
	}
	return sameTime(e.ModTime, below.ModTime) && e.Size == below.Size && (e.Kind != layers.Symlink || e.Target == below.Target)
}

// sameTime compares nanoseconds, or seconds if either is whole: what has been
// through a tar has no more.
func sameTime(a, b int64) bool {
	const second = int64(time.Second)
	if a%second == 0 || b%second == 0 {
		return floorSeconds(a) == floorSeconds(b)
	}
	return a == b
}

func sameXattrs(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || other != value {
			return false
		}
	}
	return true
}

// sameContent compares a file of the upper directory with the one below.
func (w *upperWalk) sameContent(ctx context.Context, parent int, name string, layer int, below layers.Entry) (same bool, err error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { err = errors.Join(err, f.Close()) }()
	other, err := w.openLower(layer, below)
	if err != nil {
		return false, fmt.Errorf("reading what is below: %w", err)
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	if w.buf[0] == nil {
		w.buf[0], w.buf[1] = make([]byte, copyBufferSize), make([]byte, copyBufferSize)
	}
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := io.ReadFull(f, w.buf[0])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return false, err
		}
		m, otherErr := io.ReadFull(other, w.buf[1])
		if otherErr != nil && otherErr != io.EOF && otherErr != io.ErrUnexpectedEOF {
			return false, fmt.Errorf("reading what is below: %w", otherErr)
		}
		if !bytes.Equal(w.buf[0][:n], w.buf[1][:m]) {
			return false, nil
		}
		if err != nil {
			return otherErr != nil, nil
		}
	}
}

// readXattrs reads the attributes of the file or directory at p into e, and
// what an overlay says with its own.
func readXattrs(e *layers.Entry, p string) error {
	names, err := listXattrs(p)
	if err != nil {
		return err
	}
	for _, name := range names {
		of, overlay := strings.CutPrefix(name, "trusted.overlay.")
		if !overlay {
			of, overlay = strings.CutPrefix(name, "user.overlay.")
		}
		switch {
		case overlay && (of == "redirect" || of == "metacopy"):
			return fmt.Errorf("the overlay has a %s, which is not supported", of)
		case overlay && of != "opaque", !overlay && !KeepXattr(name):
			continue
		}
		value, err := getXattr(p, name)
		if err == unix.ENODATA {
			continue // gone, or not for us
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		if overlay {
			e.Opaque = e.Opaque || e.Kind == layers.Dir && value == "y"
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = make(map[string]string)
		}
		e.Xattrs[name] = value
	}
	return nil
}

// listXattrs returns the names of all attributes; none where there cannot
// be any.
func listXattrs(p string) ([]string, error) {
	for {
		n, err := unix.Llistxattr(p, nil)
		if err == unix.ENOTSUP || n == 0 && err == nil {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("attributes: %w", err)
		}
		buf := make([]byte, n)
		n, err = unix.Llistxattr(p, buf)
		if err == unix.ERANGE {
			continue // there are more by now
		}
		if err != nil {
			return nil, fmt.Errorf("attributes: %w", err)
		}
		return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
	}
}

func getXattr(p, name string) (string, error) {
	for {
		n, err := unix.Lgetxattr(p, name, nil)
		if err != nil || n == 0 {
			return "", err
		}
		buf := make([]byte, n)
		n, err = unix.Lgetxattr(p, name, buf)
		if err == unix.ERANGE {
			continue
		}
		return string(buf[:max(n, 0)]), err
	}
}
