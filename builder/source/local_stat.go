package source

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// stat looks at the file called base in dir. The result is nil, with an error
// that missing knows, when there is none.
func (l *Local) stat(dir *os.File, name, base string) (*seen, error) {
	var st unix.Stat_t
	fd := int(dir.Fd())
	if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: filepath.Join(l.dir, name), Err: err}
	}
	s := &seen{stamp: stampOf(&st), entry: layers.Entry{
		Path: name, Mode: uint32(st.Mode) & 0o7777, ModTime: archive.ModTime(&st), Offset: -1,
	}}
	e := &s.entry
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Kind = layers.Dir
	case unix.S_IFLNK:
		e.Kind = layers.Symlink
		var err error
		if e.Link, err = readlink(fd, base); err == unix.EINVAL {
			return nil, &ChangedError{Path: name}
		}
		if err != nil {
			return nil, &fs.PathError{Op: "readlink", Path: filepath.Join(l.dir, name), Err: err}
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Kind = layers.CharDevice
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Kind = layers.BlockDevice
		}
		e.DevMajor, e.DevMinor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	case unix.S_IFIFO:
		e.Kind = layers.Fifo
	case unix.S_IFSOCK:
		s.socket = true
	default:
		e.Size = st.Size
		if st.Nlink > 1 {
			e.Link = fmt.Sprintf("/%d/%d", st.Dev, st.Ino)
		}
	}
	return s, nil
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), ino: st.Ino, dev: uint64(st.Dev)}
}

func readlink(dirfd int, base string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dirfd, base, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
