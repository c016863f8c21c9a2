package source

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers/archive"
)

// Offer makes a file that is at hand look like a download, and returns the
// address that it has for HTTP: so a context on standard input is the same as
// one from a server. The file stays the caller's.
func (r *Remotes) Offer(ctx context.Context, f *os.File) (address string, err error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, archive.ContextReader(ctx, io.NewSectionReader(f, 0, info.Size()))); err != nil {
		return "", fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("keeping %s open: %w", f.Name(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// No server can have such a name (RFC 6761).
	address = fmt.Sprintf("http://offer%d.invalid/", len(r.downloads))
	s := &slot[download]{found: true}
	s.val = download{
		downloadRecord: downloadRecord{
			URL: address, Digest: digest.NewDigest(digest.SHA256, sum), Size: info.Size(),
		},
		body: os.NewFile(uintptr(fd), f.Name()), fresh: true,
	}
	r.downloads[folderName(address, "", http.Header{})] = s
	return address, nil
}
