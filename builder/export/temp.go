package export

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/folder"
)

// temp is a file on its way to its name. Where the file system can, it has no
// name at all while it is written; else, and for the moment in which it takes
// its last name, it has a temporary one. Its lock says that the process that
// writes it is alive: what has such a name and nobody holds is a killed one's.
type temp struct {
	file     *os.File
	name     string
	nameless bool
	// hold keeps the lock when file is closed.
	hold int
}

// openTemp opens a new file that is to become path.
func openTemp(path string) (*temp, error) {
	name, err := tempName(path)
	if err != nil {
		return nil, err
	}
	t := &temp{name: name, hold: -1}
	if t.file, t.nameless = openNameless(filepath.Dir(path)); !t.nameless {
		// O_CREATE leaves the mode to the umask, as os.CreateTemp would not.
		if t.file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
			return nil, err
		}
	}
	// Some file systems have no locks; there, age decides.
	err = unix.Flock(int(t.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if lost := errors.Is(err, unix.EWOULDBLOCK) || !t.nameless && !isNamed(name, t.file); lost {
		// Who looked for leftovers came between the name and the lock.
		t.close()
		return openTemp(path)
	}
	if t.hold, err = unix.FcntlInt(t.file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// openNameless makes a file that has no name, so that nothing of it is left
// when this process is killed; ok is false where that cannot be done, or where
// the file could not be given a name later.
func openNameless(dir string) (_ *os.File, ok bool) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return nil, false
	}
	f, err := os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o666)
	return f, err == nil
}

// rename gives the file its last name, in place of what has it now.
func (t *temp) rename(path string) error {
	if t.nameless {
		self := fmt.Sprintf("/proc/self/fd/%d", t.file.Fd())
		if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, t.name, unix.AT_SYMLINK_FOLLOW); err != nil {
			return err
		}
		t.nameless = false
	}
	// Closing may be what tells of an error; the lock stays until the end.
	err := t.file.Close()
	if err == nil {
		err = os.Rename(t.name, path)
	}
	if err == nil {
		t.name = ""
	}
	return err
}

// close removes the file unless it has its last name.
func (t *temp) close() {
	if t.name != "" && !t.nameless {
		_ = os.Remove(t.name)
	}
	_ = t.file.Close()
	if t.hold >= 0 {
		_ = unix.Close(t.hold)
	}
}

// tempBytes is how many random bytes a temporary name has.
const tempBytes = 6

// tempName is a new name beside path.
func tempName(path string) (string, error) {
	var b [tempBytes]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(path), fmt.Sprintf("%s%x%s", tempPrefix(path), b, tempSuffix)), nil
}

// isRandom reports whether s is what temporary names are made unique with.
func isRandom(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == tempBytes
}

const tempSuffix = ".tmp"

// tempPrefix is how temporary names for path begin.
func tempPrefix(path string) string { return fmt.Sprintf(".%.100s.", filepath.Base(path)) }

// stale is the age at which a file under a temporary name is nobody's any more
// where no lock can tell.
const stale = time.Hour

// removeStale removes what a process left that was killed before the file had
// its last name.
func removeStale(path string) error { return removeStaleIn(filepath.Dir(path), tempPrefix(path)) }

// removeStaleIn does so for all temporary names in dir that begin with prefix.
func removeStaleIn(dir, prefix string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		// A directory may be written to and not read.
		return nil
	}
	for _, e := range entries {
		name, isTemp := strings.CutSuffix(e.Name(), tempSuffix)
		dot := strings.LastIndexByte(name, '.')
		if !isTemp || !strings.HasPrefix(name, prefix) || dot+1 < len(prefix) || !isRandom(name[dot+1:]) || !e.Type().IsRegular() {
			continue
		}
		if err := removeUnheld(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeUnheld removes the file unless a living process writes it.
func removeUnheld(name string) error {
	f, err := os.Open(name)
	if err != nil {
		// Another user's, perhaps; or it is gone.
		return nil
	}
	defer f.Close()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil
	case err != nil:
		if info, err := f.Stat(); err != nil || time.Since(info.ModTime()) < stale {
			return nil
		}
	}
	if !isNamed(name, f) {
		return nil
	}
	return os.Remove(name)
}

// isNamed reports whether the file at name is f.
func isNamed(name string, f *os.File) bool {
	now, err := os.Lstat(name)
	if err != nil {
		return false
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(now, opened)
}

// holdDir waits until no other build writes into the directory; until release is
// called none does. Where there are no locks it holds nothing.
func holdDir(ctx context.Context, dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		// It may be one that can be written to and not read.
		return func() {}, nil
	}
	if err := folder.Hold(ctx, f); err != nil && ctx.Err() != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}
