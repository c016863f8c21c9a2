package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Mark tells a directory from a copy of it, and from what it was before it was
// changed. Owners, modes, links and devices are easily lost in a copy, and nothing in
// it tells. The number of its file system does not belong to a mark: that changes
// when the machine starts again.
type Mark struct {
	// Version is markVersion; marks of other versions are ignored.
	Version int    `json:"version"`
	Inode   uint64 `json:"inode"`
	// Changed is the time of the last change of its metadata (ctime), in
	// nanoseconds. The kernel alone sets it, so no copy has the same.
	Changed int64 `json:"changed"`
	// IDs are the user and group IDs of the process that made it, as Store's option
	// of this name. Empty in marks of older versions.
	IDs string `json:"ids,omitempty"`
	// Owners says that the owners of what is in it count.
	Owners bool `json:"owners,omitempty"`
	// Latest is the youngest ctime of all that is in it: younger ones are of changes
	// since.
	Latest int64 `json:"latest"`
	// Below is the Fingerprint of what is in it.
	Below digest.Digest `json:"below"`
}

// markVersion goes up when Fingerprint yields others for the same directory.
const markVersion = 1

// MarkOf describes a directory that is complete. A process in another user namespace
// sees other owners; owners says whether they count all the same.
func MarkOf(ctx context.Context, dir string, owners bool) (Mark, error) {
	below, latest, err := Fingerprint(ctx, dir, owners)
	if err != nil {
		return Mark{}, err
	}
	m := Mark{Version: markVersion, Owners: owners, Below: below, Latest: latest}
	return m, m.Renamed(dir)
}

// Renamed notes that the directory is now called dir: renaming it changed its ctime.
func (m *Mark) Renamed(dir string) (err error) {
	m.Inode, m.Changed, err = identity(dir)
	return err
}

// Is reports whether dir is the directory that m describes; one that is missing is
// not. It costs one lstat: what is in dir is not looked at.
func (m Mark) Is(dir string) (bool, error) {
	inode, changed, err := identity(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	return err == nil && m.Version == markVersion && m.Inode == inode && m.Changed == changed, err
}

// Unchanged reports whether everything in dir is as it was.
func (m Mark) Unchanged(ctx context.Context, dir string) (bool, error) {
	below, _, err := Fingerprint(ctx, dir, m.Owners)
	return below == m.Below, err
}

// identity returns what no other directory has in common with dir.
func identity(dir string) (inode uint64, changed int64, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, 0, &os.PathError{Op: "lstat", Path: dir, Err: unix.ENOTDIR}
	}
	return st.Ino, time.Unix(st.Ctim.Unix()).UnixNano(), nil
}
