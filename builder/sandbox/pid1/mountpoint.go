package pid1

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// mountPoints opens what is mounted on, and makes what is missing. What it made
// in the root is removed again after the command (see removeStubs).
type mountPoints struct {
	root int
	// at is the root's path in the namespace of the init.
	at string
	// dev tells the root's own files from those of mounts in it.
	dev uint64
	// made are the paths made in the root, parents first.
	made []string
	// count is how many paths were made, in mounts as well.
	count int
}

func newMountPoints(root int) (*mountPoints, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return nil, fmt.Errorf("looking at the root: %w", err)
	}
	p := &mountPoints{root: root, dev: st.Dev}
	var err error
	if p.at, err = p.path(root); err != nil {
		return nil, fmt.Errorf("looking at the root: %w", err)
	}
	return p, nil
}

// open opens a mount point for a directory or a file. Links are followed inside
// the root, also those that point to nothing: then their target is made.
func (p *mountPoints) open(name string, dir bool) (int, error) {
	fd, err := p.find(path.Clean("/"+name), dir, 0)
	if err != nil {
		return -1, fmt.Errorf("mount point %s: %w", name, err)
	}
	if err := notProc(fd, name); err != nil {
		unix.Close(fd)
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("mount point %s: %w", name, err)
	}
	if is := st.Mode&unix.S_IFMT == unix.S_IFDIR; is != dir {
		unix.Close(fd)
		if is {
			return -1, fmt.Errorf("mount point %s is a directory, and what is mounted is a file", name)
		}
		return -1, fmt.Errorf("mount point %s is a file, and what is mounted is a directory", name)
	}
	return fd, nil
}

// notProc refuses a mount point in /proc that is named by another path, through
// a symlink: what may be covered there was decided by the path.
func notProc(fd int, name string) error {
	in, err := inProc(fd)
	if err != nil {
		return fmt.Errorf("mount point %s: %w", name, err)
	}
	if !in || strings.HasPrefix(path.Clean(name), "/proc/") {
		return nil
	}
	return hint.Add(
		fmt.Errorf("mount point %s leads into /proc: nothing can be mounted there", name),
		"/proc is the kernel's own; choose another target, or correct the symlink in the image",
	)
}

func inProc(fd int) (bool, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(fd, &st)
	return st.Type == unix.PROC_SUPER_MAGIC, err
}

// find opens a path, making it when missing. The path may have ".." in it.
func (p *mountPoints) find(name string, dir bool, links int) (int, error) {
	fd, err := openBelow(p.root, name, unix.O_PATH)
	if !errors.Is(err, fs.ErrNotExist) {
		return fd, err
	}
	if links == hostfile.MaxLinks {
		return -1, unix.ELOOP
	}
	name = strings.TrimRight(name, "/")
	above, base := path.Split(name)
	parent, err := p.find(above, true, links)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if in, err := inProc(parent); in || err != nil {
		// Its links are not text, and nothing is made there.
		return -1, cmp.Or(err, error(unix.ENOENT))
	}
	real, err := p.path(parent)
	if err != nil {
		return -1, err
	}
	link := make([]byte, unix.PathMax)
	if n, err := unix.Readlinkat(parent, base, link); err == nil {
		target := string(link[:n])
		if !path.IsAbs(target) {
			target = real + "/" + target
		}
		return p.find(target, dir, links+1)
	}
	fd, err = p.create(parent, path.Join(real, base), dir)
	if errors.Is(err, fs.ErrExist) {
		// Another command that shares the directory, such as a cache mount, was faster.
		return p.find(name, dir, links+1)
	}
	return fd, err
}

// path returns where in the root an open directory is.
func (p *mountPoints) path(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(fdPath(fd), buf)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(string(buf[:n]), p.at), nil
}

// create makes a directory or an empty file, leaving no trace on its parent.
func (p *mountPoints) create(parent int, name string, dir bool) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(parent, &st); err != nil {
		return -1, err
	}
	base := path.Base(name)
	if dir {
		if err := unix.Mkdirat(parent, base, 0o755); err != nil {
			return -1, err
		}
	} else {
		fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o755)
		if err != nil {
			return -1, err
		}
		unix.Close(fd)
	}
	p.count++
	if st.Dev == p.dev {
		p.made = append(p.made, name)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(parent), []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		return -1, fmt.Errorf("keeping the times of %s: %w", path.Dir(name), err)
	}
	return unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
