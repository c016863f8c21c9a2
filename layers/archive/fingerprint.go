package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Fingerprint returns a digest over the metadata of everything below dir: names,
// inodes, types, modes, owners as this user namespace sees them (if owners is set),
// sizes, and the times of the last change of content and of metadata. It is another one as soon
// as anything below dir was changed by way of the file system, or is a copy. No
// content is read. dir itself does not count.
//
// latest is the youngest ctime of all, in nanoseconds.
func Fingerprint(ctx context.Context, dir string, owners bool) (d digest.Digest, latest int64, err error) {
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", 0, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f := &fingerprint{owners: owners}
	f.group, f.ctx = errgroup.WithContext(ctx)
	// Half of the cores: the others are for the command that runs meanwhile.
	f.group.SetLimit(max(1, runtime.GOMAXPROCS(0)/2))
	f.group.Go(func() error { return f.dir(fd, dir, 0) })
	if err := f.group.Wait(); err != nil {
		return "", 0, err
	}
	sum := make([]byte, 0, sha256.Size)
	for _, word := range f.sum {
		sum = binary.BigEndian.AppendUint64(sum, word)
	}
	return digest.NewDigestFromBytes(digest.SHA256, sum), f.latest, nil
}

// fingerprint adds up the digests of entries: neither the order in which a
// directory lists them nor that in which directories are read counts.
type fingerprint struct {
	owners bool
	group  *errgroup.Group
	ctx    context.Context //nolint:containedctx // of one call of Fingerprint

	mu     sync.Mutex
	sum    entrySum
	latest int64
}

// entries is what is known of one directory.
type entries struct {
	sum    entrySum
	latest int64
}

// entrySum is a sum of SHA-256 digests, word by word.
type entrySum [sha256.Size / 8]uint64

func (s *entrySum) add(digest [sha256.Size]byte) {
	for i := range s {
		s[i] += binary.BigEndian.Uint64(digest[8*i:])
	}
}

// dir adds everything below the directory fd, which it closes.
func (f *fingerprint) dir(fd int, path string, inode uint64) (err error) {
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var found entries
	names, buf := []string(nil), make([]byte, 8<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return &os.PathError{Op: "readdir", Path: path, Err: err}
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			if err := f.entry(&found, fd, path, name, inode); err != nil {
				return err
			}
		}
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, word := range found.sum {
		f.sum[i] += word
	}
	f.latest = max(f.latest, found.latest)
	return nil
}

func (f *fingerprint) entry(found *entries, parent int, path, name string, inode uint64) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "lstat", Path: path + "/" + name, Err: err}
	}
	if !f.owners {
		st.Uid, st.Gid = 0, 0
	}
	found.sum.add(digestOf(&st, name, inode))
	found.latest = max(found.latest, time.Unix(st.Ctim.Unix()).UnixNano())
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path + "/" + name, Err: err}
	}
	if f.group.TryGo(func() error { return f.dir(fd, path+"/"+name, st.Ino) }) {
		return nil
	}
	return f.dir(fd, path+"/"+name, st.Ino)
}

// digestOf is the digest of one entry; parent is the inode that it is in.
func digestOf(st *unix.Stat_t, name string, parent uint64) [sha256.Size]byte {
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		// An overlay's whiteouts are names of one inode, whose link in the
		// overlay's work directory goes later.
		st.Ctim = unix.Timespec{}
	}
	buf := make([]byte, 0, 128)
	for _, n := range [...]uint64{
		parent, st.Ino, uint64(st.Mode), uint64(st.Uid)<<32 | uint64(st.Gid), uint64(st.Size), uint64(st.Rdev),
		uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec), uint64(st.Ctim.Sec), uint64(st.Ctim.Nsec),
	} {
		buf = binary.LittleEndian.AppendUint64(buf, n)
	}
	return sha256.Sum256(append(buf, name...))
}
