package place

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/store"
)

// OpenDir opens the directory of an output. Nothing that is done in it leaves it.
// A symlink at dest is followed as hostfile.Find does.
func OpenDir(dest string) (*os.Root, error) {
	p, err := hostfile.Find(dest)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return openPlace(p, dest)
}

// openPlace opens the directory at p, which dest led to. It needs no /proc: dest is
// looked up once more, and an error when it now leads elsewhere.
func openPlace(p *hostfile.Place, dest string) (*os.Root, error) {
	flags := unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !p.Open {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat(int(p.Dir.Fd()), p.Name, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dest, Err: err}
	}
	found := os.NewFile(uintptr(fd), dest)
	defer found.Close()
	root, err := os.OpenRoot(dest)
	if err != nil {
		return nil, err
	}
	want, err := found.Stat()
	got, rerr := root.Stat(".")
	if err = errors.Join(err, rerr); err == nil && !os.SameFile(got, want) {
		err = hint.Add(errors.New("it was replaced by another directory"), "choose a directory that only this user can replace")
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// MaxWait is how long a build waits for a directory that others can lock.
const MaxWait = 30 * time.Second

// Turns makes builds that write into one directory take turns.
type Turns struct {
	Store *store.Store
	// Wait is how long to wait for a directory that others can lock; Warn gets
	// what happens when that was not enough.
	Wait time.Duration
	Warn func(text string)
}

// Take waits until no other build writes into the directory; until release is
// called none does. Builds of one store have a lock in it. Those of different stores
// and users lock the directory itself, which whoever can open it can do for ever:
// then the build goes on after a while.
func (t Turns) Take(ctx context.Context, root *os.Root) (release func(), err error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	unlock, err := t.lock(ctx, d, root.Name())
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return func() {
		d.Close()
		unlock()
	}, nil
}

// lock takes the store's lock, which it returns, and that of the directory d, which
// ends when d is closed.
func (t Turns) lock(ctx context.Context, d *os.File, name string) (unlock func(), err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	what := "the directory " + name + ", which another build is writing into"
	unlock, err = t.Store.Lock(ctx, fmt.Sprintf("output-%x-%x", st.Dev, st.Ino), what)
	if err != nil {
		return nil, err
	}
	bounded := ctx
	if int(st.Uid) != os.Geteuid() || st.Mode&0o044 != 0 {
		var cancel func()
		bounded, cancel = context.WithTimeout(ctx, t.Wait)
		defer cancel()
	}
	// Some file systems have no locks: another error stops nobody.
	err = hostfile.Hold(bounded, d, what, hostfile.Exclusive)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		unlock()
		return nil, context.Cause(ctx)
	case bounded.Err() != nil:
		t.Warn(fmt.Sprintf("another process has kept the directory %s locked for %v: writing into it anyway; if that process is a build, the two may overwrite each other's files", name, t.Wait))
	}
	return unlock, nil
}

// In is the place of a file below root. What has its name now is replaced,
// never followed.
func In(root *os.Root, dir, name string) (*hostfile.Place, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	return &hostfile.Place{Dir: d, Name: name}, nil
}
