package web

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/archive"
)

// offered begins the addresses of files that are at hand. BuildKit gives an upload such
// an address, with a random name (session/upload/uploadprovider), and provenance has it.
// No server is asked for others that begin so.
const offered = "http://buildkit-session/"

// IsOffered says whether Offer made the address.
func IsOffered(address string) bool { return strings.HasPrefix(address, offered) }

// Offer makes a file that is at hand look like a download, and returns the
// address that it has for HTTP: so a context on standard input is the same as
// one from a server. The file stays the caller's.
func (f *Fetcher) Offer(ctx context.Context, file *os.File) (address string, err error) {
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, archive.ContextReader(ctx, io.NewSectionReader(file, 0, info.Size()))); err != nil {
		return "", fmt.Errorf("reading %s: %w", file.Name(), err)
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("keeping %s open: %w", file.Name(), err)
	}
	address = fmt.Sprintf("%s%d", offered, f.offers.Add(1)-1)
	a := f.downloads.At(remote.Name(address, "", http.Header{}))
	a.Lock()
	defer a.Unlock()
	a.Found, a.Value = true, download{
		downloadRecord: downloadRecord{
			URL: address, Digest: digest.NewDigest(digest.SHA256, sum), Size: info.Size(),
		},
		body: os.NewFile(uintptr(fd), file.Name()), fresh: true,
	}
	return address, nil
}
