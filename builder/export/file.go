package export

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// writeFile makes the file at path: under its name stands the old one or the
// whole new one, never a part. A symlink is followed, and what is no regular
// file (a pipe, a device) is written to as it is.
func writeFile(path string, write func(io.Writer) error) error {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return fill(f, write)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := removeStale(path); err != nil {
		return err
	}
	tmp, err := tempName(path)
	if err != nil {
		return err
	}
	if f, ok := openNameless(filepath.Dir(path)); ok {
		err = fill(f, write, func() error {
			return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, tmp, unix.AT_SYMLINK_FOLLOW)
		})
	} else if f, err = os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err == nil {
		// O_CREATE leaves the mode to the umask, as os.CreateTemp would not.
		err = fill(f, write)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
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

// fill writes to f, does what is to be done once all is written, and closes f.
func fill(f *os.File, write func(io.Writer) error, then ...func() error) error {
	w := bufio.NewWriterSize(f, 1<<20)
	err := write(w)
	if err == nil {
		err = w.Flush()
	}
	for _, do := range then {
		if err == nil {
			err = do()
		}
	}
	return errors.Join(err, f.Close())
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

const tempSuffix = ".tmp"

// tempPrefix is how temporary names for path begin.
func tempPrefix(path string) string { return fmt.Sprintf(".%.100s.", filepath.Base(path)) }

// stale is the age at which a file under a temporary name is nobody's any more.
const stale = time.Hour

// removeStale removes what a process left that was killed between naming the
// file and giving it its last name, or that could not do without a name.
func removeStale(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		// A directory may be written to and not read.
		return nil
	}
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), tempPrefix(path))
		random, isTemp := strings.CutSuffix(random, tempSuffix)
		if !ok || !isTemp || len(random) != 2*tempBytes || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > stale {
			if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
