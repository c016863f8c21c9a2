package builder

import (
	"context"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/source"
)

// bounds limit what goes on at once.
type bounds struct {
	// commands mostly sleep, wait for servers or have threads of their own: the
	// graph alone says how many run.
	commands *semaphore.Weighted
	// work is what this process does itself with a processor: hashing, copying
	// and packing files. Nobody who has a part of it waits for another part.
	work *semaphore.Weighted
}

func newBounds(parallel int) bounds {
	if parallel <= 0 {
		parallel = mostCommands()
	}
	return bounds{
		commands: semaphore.NewWeighted(int64(parallel)),
		work:     semaphore.NewWeighted(2 * int64(runtime.GOMAXPROCS(0))),
	}
}

// filesOfCommand is more than the open files that this process has for one command.
const filesOfCommand = 16

// mostCommands is how many commands the limit on open files leaves room for.
func mostCommands() int {
	const least, most = 4, 1 << 16
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return least
	}
	return int(min(most, max(least, l.Cur/filesOfCommand)))
}

// beginWork waits until there is a processor to work with; end says that the work
// is done.
func (b bounds) beginWork(ctx context.Context) (end func(), err error) {
	if err := b.work.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { b.work.Release(1) }, nil
}

// digest is fileop.Digest within the bounds.
func (b bounds) digest(ctx context.Context, files source.FS, sel fileop.Selection) (digest.Digest, error) {
	end, err := b.beginWork(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	return fileop.Digest(ctx, files, sel)
}
