package export

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/store"
)

// openDest opens the directory of an output, which is made when it is missing.
// Nothing that is done in it leaves it. A symlink at dest is followed as
// hostfile.Find does.
func openDest(dest string) (*os.Root, error) {
	if err := hostfile.Check(dest); err != nil {
		return nil, err
	}
	return os.OpenRoot(dest)
}

// holdDir waits until no other build of this store writes into the directory;
// until release is called none does. The lock is one of the store's: whoever can
// read the directory could hold a lock on the directory itself for ever.
func holdDir(ctx context.Context, s *store.Store, root *os.Root) (release func(), err error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(d.Fd()), &st)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	what := "the directory " + root.Name() + ", into which another build writes"
	return s.Lock(ctx, fmt.Sprintf("output-%x-%x", st.Dev, st.Ino), what)
}

// placeIn is the place of a file below root. What has its name now is replaced,
// never followed.
func placeIn(root *os.Root, dir, name string) (*hostfile.Place, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	return &hostfile.Place{Dir: d, Name: name}, nil
}
