package archive

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
)

// EntryOf returns what a tar header says of a file, in a layer and in an archive
// that ADD unpacks alike. The path is not set; Target and Link
// are as written. Every symlink has mode 0777: Linux knows no other.
func EntryOf(h *tar.Header) (layers.Entry, error) {
	e := layers.Entry{
		Mode:    uint32(h.Mode) & 0o7777,
		UID:     ownerID(h.Uid),
		GID:     ownerID(h.Gid),
		ModTime: layers.UnixNano(h.ModTime),
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.Kind, e.Size = layers.File, h.Size
	case tar.TypeDir:
		e.Kind = layers.Dir
	case tar.TypeLink:
		e.Kind, e.Link = layers.Hardlink, h.Linkname
	case tar.TypeSymlink:
		e.Kind, e.Target, e.Mode = layers.Symlink, h.Linkname, 0o777
		if len(e.Target) > maxPath {
			return e, fmt.Errorf("the symlink's target is too long: %d bytes, the limit is %d", len(e.Target), maxPath)
		}
		if e.Target == "" {
			return e, fmt.Errorf("a symlink to nothing: %w", syscall.ENOENT)
		}
	case tar.TypeChar:
		e.Kind, e.DevMajor, e.DevMinor = layers.CharDevice, uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeBlock:
		e.Kind, e.DevMajor, e.DevMinor = layers.BlockDevice, uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		e.Kind = layers.Fifo
	default:
		return e, fmt.Errorf("unknown tar header type %q", h.Typeflag)
	}
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if name = decodeXattrName(name); !ok || !KeepXattr(name) {
			continue
		}
		setXattr(&e, name, value)
	}
	return e, nil
}

// EntryOfStat returns what the kernel says of a file. The path, a symlink's target and
// the extended attributes are not set. A socket, which no layer holds, is an empty File.
func EntryOfStat(st *unix.Stat_t) layers.Entry {
	e := layers.Entry{Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), ModTime: ModTime(st)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Size = st.Size
	case unix.S_IFDIR:
		e.Kind = layers.Dir
	case unix.S_IFLNK:
		e.Kind = layers.Symlink
	case unix.S_IFIFO:
		e.Kind = layers.Fifo
	case unix.S_IFCHR:
		e.Kind, e.DevMajor, e.DevMinor = layers.CharDevice, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFBLK:
		e.Kind, e.DevMajor, e.DevMinor = layers.BlockDevice, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return e
}

// ModTime is the time of the last change of a file's content, as entries have it.
func ModTime(st *unix.Stat_t) int64 { return layers.UnixNano(time.Unix(st.Mtim.Unix())) }

func setXattr(e *layers.Entry, name, value string) {
	if e.Xattrs == nil {
		e.Xattrs = make(map[string]string)
	}
	e.Xattrs[name] = value
}

// Relink gives file what link, a hardlink to it, says: owner, mode, time and
// attributes of the last name are those of all names. Like chown(2), it takes
// away the capability that the file had. A symlink keeps its mode. The map of
// attributes is changed in place.
func Relink(file *layers.Entry, link layers.Entry) {
	file.UID, file.GID, file.ModTime = link.UID, link.GID, link.ModTime
	if file.Kind != layers.Symlink {
		file.Mode = link.Mode
	}
	delete(file.Xattrs, capability)
	for name, value := range link.Xattrs {
		setXattr(file, name, value)
	}
	if len(file.Xattrs) == 0 {
		file.Xattrs = nil
	}
}

// ownerID converts a tar header's uid or gid to the kernel's 32-bit ID. -1, which
// chown(2) reads as "leave unchanged", becomes root.
func ownerID(n int) int {
	id := uint32(n)
	if id == math.MaxUint32 {
		return 0
	}
	return int(id)
}

// IsSparse says whether the content of h is stored as a map and pieces.
func IsSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}
