package pid1

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Another command that shares a directory, such as a cache mount, may make a mount point
// at the same time.
func TestMountPointMadeByAnother(t *testing.T) {
	dir := t.TempDir()
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	p, err := newMountPoints(root)
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	other := make(chan struct{})
	go func() {
		defer close(other)
		for !stop.Load() {
			_ = os.Mkdir(filepath.Join(dir, "at"), 0o755) // or we have made it
			_ = os.Remove(filepath.Join(dir, "at"))
		}
	}()
	for len(p.made) < 50 {
		fd, err := p.open("/at", true)
		if errors.Is(err, fs.ErrExist) {
			t.Error(err)
			break
		}
		if err == nil { // else it was removed meanwhile
			unix.Close(fd)
		}
	}
	stop.Store(true)
	<-other
}
