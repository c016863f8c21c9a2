package layers

import "io/fs"

// specialBits are setuid, setgid and sticky as an Entry has them and as Go does.
var specialBits = [...]struct {
	unix uint32
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// FileMode returns the Mode of an Entry as Go's, without the file's type.
func FileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, b := range specialBits {
		if mode&b.unix != 0 {
			m |= b.mode
		}
	}
	return m
}

// UnixMode is the inverse of FileMode.
func UnixMode(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for _, b := range specialBits {
		if m&b.mode != 0 {
			bits |= b.unix
		}
	}
	return bits
}

// FileMode returns type and permissions as the standard library has them.
func (e Entry) FileMode() fs.FileMode {
	m := FileMode(e.Mode)
	switch e.Kind {
	case Dir:
		m |= fs.ModeDir
	case Symlink:
		m |= fs.ModeSymlink
	case CharDevice:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case BlockDevice:
		m |= fs.ModeDevice
	case Fifo:
		m |= fs.ModeNamedPipe
	}
	return m
}
