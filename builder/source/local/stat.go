package local

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
)

// stat looks at the file called base in dir. The result is nil, with an error
// that missing knows, when there is none.
func (l *Directory) stat(dir *os.File, name, base string) (*seen, error) {
	var st unix.Stat_t
	fd := int(dir.Fd())
	if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: filepath.Join(l.dir, name), Err: err}
	}
	e := archive.EntryOfStat(&st)
	s := &seen{path: name, stamp: stampOf(&st), kind: e.Kind, mode: e.Mode, major: e.DevMajor, minor: e.DevMinor}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		var err error
		if s.target, err = readlink(fd, base); err == unix.EINVAL {
			return nil, &ChangedError{Path: name}
		}
		if err != nil {
			return nil, &fs.PathError{Op: "readlink", Path: filepath.Join(l.dir, name), Err: err}
		}
	case unix.S_IFSOCK:
		s.socket = true
	case unix.S_IFREG:
		if st.Nlink > 1 {
			s.inode = l.inode(s.stamp)
		}
	}
	return s, nil
}

// inode returns the same for all names of a file.
func (l *Directory) inode(s stamp) layers.Inode {
	l.mu.Lock()
	defer l.mu.Unlock()
	file := [...]uint64{s.dev, s.ino}
	if l.inodes[file] == 0 {
		l.inodes[file] = layers.Inode(len(l.inodes) + 1)
	}
	return l.inodes[file]
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{size: st.Size, mtime: archive.ModTime(st), ctime: st.Ctim.Nano(), ino: st.Ino, dev: uint64(st.Dev)}
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
