package place

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// temp is a file on its way to its name. Where the file system can, it has no
// name at all while it is written; else, and for the moment in which it takes
// its last name, it has a temporary one. Its lock says that the process that
// writes it is alive: what has such a name and nobody holds is a killed one's.
type temp struct {
	file *os.File
	// dir holds the file; name is the temporary one, last the one it is to have.
	dir        int
	name, last string
	nameless   bool
	// release ends the lock, which stays when file is closed.
	release func()
}

// tempTries is how often another name is tried when somebody else locks the file
// at once. Who looks for leftovers does so for a moment only.
const tempTries = 100

// openTemp opens a new file that is to become p, which has to stay open.
func openTemp(p *hostfile.Place) (*temp, error) {
	for range tempTries {
		t, lost, err := tryTemp(p)
		if err != nil || !lost {
			return t, err
		}
	}
	return nil, &fs.PathError{Op: "lock", Path: p.Name, Err: unix.EWOULDBLOCK}
}

// tryTemp reports that the file was lost when who looked for leftovers came
// between its name and its lock.
func tryTemp(p *hostfile.Place) (_ *temp, lost bool, err error) {
	t := &temp{dir: int(p.Dir.Fd()), last: p.Name, name: tempPrefix(p.Name) + Random() + tempSuffix}
	if t.file, t.nameless = openNameless(t.dir); !t.nameless {
		// O_CREAT leaves the mode to the umask, as os.CreateTemp would not.
		if t.file, err = openAt(t.dir, t.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666); err != nil {
			return nil, false, err
		}
	}
	t.release, err = KeepLocked(t.file)
	if errors.Is(err, unix.EWOULDBLOCK) || err == nil && !t.nameless && !hostfile.NamesAt(t.dir, t.name, t.file) {
		t.close()
		return nil, true, nil
	}
	if err != nil {
		t.close()
		return nil, false, err
	}
	return t, false, nil
}

// KeepLocked locks a new file, where the file system has locks; elsewhere age decides
// what is a leftover. The lock stays until release is called, also when f is closed
// before. It fails with EWOULDBLOCK when somebody takes f for a leftover.
func KeepLocked(f *os.File) (release func(), err error) {
	release = func() {}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return release, err
	}
	hold, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		release = func() { _ = unix.Close(hold) }
	}
	return release, err
}

// openAt is os.OpenFile in an open directory. It follows no symlink and waits for
// nobody.
func openAt(dir int, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openNameless makes a file that has no name, so that nothing of it is left
// when this process is killed; ok is false where that cannot be done, or where
// the file could not be given a name later.
func openNameless(dir int) (_ *os.File, ok bool) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return nil, false
	}
	f, err := openAt(dir, ".", unix.O_WRONLY|unix.O_TMPFILE, 0o666)
	return f, err == nil
}

// link gives a nameless file its temporary name.
func (t *temp) link() error {
	if !t.nameless {
		return nil
	}
	self := fmt.Sprintf("/proc/self/fd/%d", t.file.Fd())
	err := unix.Linkat(unix.AT_FDCWD, self, t.dir, t.name, unix.AT_SYMLINK_FOLLOW)
	t.nameless = err != nil
	return err
}

// rename gives the file its last name, in place of what has it now.
func (t *temp) rename() error {
	if err := t.link(); err != nil {
		return err
	}
	// Closing may be what tells of an error; the lock stays until the end.
	err := t.file.Close()
	if err == nil {
		err = unix.Renameat(t.dir, t.name, t.dir, t.last)
	}
	if err == nil {
		t.name = ""
	}
	return err
}

// close removes the file unless it has its last name.
func (t *temp) close() {
	if t.name != "" && !t.nameless {
		_ = unix.Unlinkat(t.dir, t.name, 0)
	}
	_ = t.file.Close()
	t.release()
}

// randomBytes is how many random bytes a temporary name has.
const randomBytes = 6

// Random returns what a temporary name is made unique with.
func Random() string {
	var b [randomBytes]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// IsRandom reports whether s is what Random returns.
func IsRandom(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == randomBytes
}

const tempSuffix = ".tmp"

// tempPrefix is how temporary names for name begin.
func tempPrefix(name string) string { return fmt.Sprintf(".%.100s.", name) }

// stale is the age at which a file under a temporary name is nobody's any more
// where no lock can tell.
const stale = time.Hour

// removeStale removes what a process left that was killed before the file had
// its last name.
func removeStale(p *hostfile.Place) error {
	return RemoveStale(int(p.Dir.Fd()), tempPrefix(p.Name))
}

// RemoveStale does so for all temporary names in dir that begin with prefix.
func RemoveStale(dir int, prefix string) error {
	d, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		// A directory may be written to and not read.
		return nil
	}
	entries, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		name, isTemp := strings.CutSuffix(e.Name(), tempSuffix)
		dot := strings.LastIndexByte(name, '.')
		if !isTemp || !strings.HasPrefix(name, prefix) || dot+1 < len(prefix) || !IsRandom(name[dot+1:]) || !e.Type().IsRegular() {
			continue
		}
		if err := RemoveUnheld(dir, e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// RemoveUnheld removes a file of ours unless a living process writes it.
func RemoveUnheld(dir int, name string) error {
	f, err := openAt(dir, name, unix.O_RDONLY, 0)
	if err != nil {
		// Another user's, perhaps; or it is gone.
		return nil
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() {
		return err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil
	case err != nil && time.Since(time.Unix(st.Mtim.Unix())) < stale:
		return nil
	}
	if !hostfile.NamesAt(dir, name, f) {
		return nil
	}
	return unix.Unlinkat(dir, name, 0)
}
