// Package web serves files that HTTP servers have, and keeps them in the store.
package web

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source/util/pathutil"
	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/builder/transfer"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// Fetcher gets files from the web. What it got stays in downloads/ below the store's
// folder, in one folder for each URL.
//
// One value serves one build: within it every URL has one answer.
type Fetcher struct {
	remote.Config
	source.Served

	client *http.Client
	// backoff has the pauses before a request is made again.
	backoff transfer.Backoff

	offers    atomic.Int32
	downloads source.Answers[download]

	mu      sync.Mutex
	retired []io.Closer
}

// New returns a fetcher.
func New(c remote.Config) *Fetcher {
	return &Fetcher{Config: c, client: remote.NewClient(), backoff: transfer.Backoff{
		First: 500 * time.Millisecond, Longest: 20 * time.Second, Wait: transfer.Wait,
	}}
}

// Close releases the files that were served. None may be in use any more.
func (f *Fetcher) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, c := range f.retired {
		errs = append(errs, c.Close())
	}
	for _, d := range f.downloads.Forget() {
		errs = append(errs, d.body.Close())
	}
	f.retired = nil
	f.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// retire keeps c open until Close.
func (f *Fetcher) retire(c io.Closer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retired = append(f.retired, c)
}

// download is a file from the web as it lies in its folder.
type download struct {
	downloadRecord
	// body has the content; its name may be gone from the folder.
	body *os.File
	// dir is "" for a file that was offered.
	dir string
	// fresh says that the server was asked in this build.
	fresh bool
}

// downloadRecord is what is written down of a download.
type downloadRecord struct {
	// URL is for people: it has no credentials.
	URL    string
	Digest digest.Digest
	Size   int64
	// What the server said.
	ETag, LastModified, Disposition string
}

// Files downloads a file, if the one in the store is not the newest, and serves
// a tree that holds nothing else. A file with the checksum asked for is the
// newest.
func (f *Fetcher) Files(ctx context.Context, op parser.HTTP) (source.FS, error) {
	d, err := f.download(ctx, op)
	if err != nil {
		return nil, err
	}
	f.Serves(op)
	return d.serve(op), nil
}

// Modified returns the digest of the file that Files would serve, and when it
// last changed by the server's word; zero when the server has not said.
func (f *Fetcher) Modified(ctx context.Context, op parser.HTTP) (sum digest.Digest, at time.Time, err error) {
	d, err := f.download(ctx, op)
	if err != nil {
		return "", at, err
	}
	if t, err := http.ParseTime(d.LastModified); err == nil {
		at = t
	}
	return d.Digest, at, nil
}

func newRequest(op parser.HTTP) (q request, err error) {
	headers, err := httpHeaders(op.Attrs)
	if err != nil {
		return q, err
	}
	u, err := url.Parse(op.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return q, hint.Add(fmt.Errorf("%q is not the address of a download", parser.Redact(op.URL)), "write http://HOST/PATH or https://HOST/PATH")
	}
	if op.Checksum != "" {
		if err := op.Checksum.Validate(); err != nil {
			return q, hint.Add(fmt.Errorf("invalid checksum %q: %w", op.Checksum, err), "write sha256: and 64 hexadecimal digits")
		}
	}
	return request{url: u, headers: headers, secret: op.AuthHeaderSecret, checksum: op.Checksum}, nil
}

// httpHeaders are the headers that the op asks for. BuildKit sends only
// these two.
func httpHeaders(attrs map[string]string) (http.Header, error) {
	h := http.Header{}
	for name, value := range attrs {
		header, ok := strings.CutPrefix(name, pb.AttrHTTPHeaderPrefix)
		header = http.CanonicalHeaderKey(header)
		if !ok || header != "Accept" && header != "User-Agent" {
			return nil, fmt.Errorf("the attribute %s of a download is not supported", name)
		}
		h.Set(header, value)
	}
	return h, nil
}

// request is a download that is wanted.
type request struct {
	url      *url.URL
	headers  http.Header
	secret   string
	checksum digest.Digest
}

// download returns the file from the store or from the server.
func (f *Fetcher) download(ctx context.Context, op parser.HTTP) (download, error) {
	q, err := newRequest(op)
	if err != nil {
		return download{}, err
	}
	key := remote.Name(q.url.String(), q.secret, q.headers)
	a := f.downloads.At(key)
	a.Lock()
	defer a.Unlock()
	if a.Found && !a.Value.fresh {
		if ok, err := a.Value.has(ctx, q.checksum); ok || err != nil {
			return a.Value, err
		}
		// Somebody may still read what was served.
		a.Found = false
		f.retire(a.Value.body)
	}
	if !a.Found {
		if IsOffered(q.url.String()) {
			return download{}, hint.Add(fmt.Errorf("%s is not an upload of this build", q.shown()), "addresses of this host stand for what is on standard input: write another")
		}
		d, err := f.look(ctx, filepath.Join(f.Root, "downloads", key), q)
		if err != nil {
			return download{}, err
		}
		a.Value, a.Found = d, true
	}
	if q.checksum == "" {
		return a.Value, nil
	}
	ok, err := a.Value.has(ctx, q.checksum)
	if err == nil && !ok {
		err = hint.Add(fmt.Errorf("digest mismatch for %s: %s (expected: %s)", a.Value.URL, a.Value.Digest, q.checksum),
			"the file is not the one that the checksum was made of: look at what the server sends, then correct the checksum")
	}
	return a.Value, err
}

// look returns the file in the folder if it will do, and else what the server
// has.
func (f *Fetcher) look(ctx context.Context, dir string, q request) (download, error) {
	lock, err := f.Lock(ctx, dir, q.shown())
	if err != nil {
		return download{}, err
	}
	defer lock.Close()
	old, err := openDownload(dir)
	if err != nil {
		return download{}, fmt.Errorf("looking for %s in the store: %w", q.shown(), err)
	}
	if old != nil {
		ok, err := old.has(ctx, q.checksum)
		if err != nil {
			return download{}, errors.Join(err, old.body.Close())
		}
		if ok {
			return *old, nil
		}
	}
	d, err := f.ask(ctx, dir, q, old)
	if old != nil && (err != nil || d.body != old.body) {
		err = errors.Join(err, old.body.Close())
	}
	return d, err
}

// openDownload returns what the folder holds; nil for nothing that can be used.
func openDownload(dir string) (*download, error) {
	data, err := os.ReadFile(filepath.Join(dir, "record"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &download{dir: dir}
	if json.Unmarshal(data, &d.downloadRecord) != nil || d.Digest.Validate() != nil {
		return nil, nil // torn: it is downloaded anew
	}
	d.body, err = os.Open(filepath.Join(dir, d.Digest.Encoded()))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := d.body.Stat()
	if err != nil || info.Size() != d.Size {
		return nil, errors.Join(err, d.body.Close())
	}
	return d, nil
}

// has reports whether the content has a checksum; "" is none.
func (d *download) has(ctx context.Context, sum digest.Digest) (bool, error) {
	if sum == "" {
		return false, nil
	}
	if sum.Algorithm() == digest.SHA256 {
		return d.Digest == sum, nil
	}
	v := sum.Verifier()
	if _, err := io.Copy(v, archive.ContextReader(ctx, io.NewSectionReader(d.body, 0, d.Size))); err != nil {
		return false, fmt.Errorf("reading the download of %s: %w", d.URL, err)
	}
	return v.Verified(), nil
}

// keep writes the body of an answer into the folder, in place of what was
// there.
func keep(dir string, rec downloadRecord, body io.Reader) (d download, err error) {
	f, err := os.CreateTemp(dir, remote.TempPrefix)
	if err != nil {
		return download{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.RemoveAll(f.Name()))
		}
	}()
	sum := sha256.New()
	if rec.Size, err = io.Copy(io.MultiWriter(f, sum), body); err != nil {
		return download{}, err
	}
	rec.Digest = digest.NewDigest(digest.SHA256, sum)
	if err := os.Rename(f.Name(), filepath.Join(dir, rec.Digest.Encoded())); err != nil {
		return download{}, err
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return download{}, err
	}
	if err := folder.WriteFile(filepath.Join(dir, remote.TempPrefix), filepath.Join(dir, "record"), data, 0o600); err != nil {
		return download{}, err
	}
	return download{downloadRecord: rec, body: f, dir: dir}, dropOthers(dir, rec.Digest.Encoded())
}

// dropOthers removes older bodies. Who still reads one has it open.
func dropOthers(dir, body string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case body, "record", "lock", remote.OriginFile:
		default:
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// serve makes the tree that op asks for.
func (d *download) serve(op parser.HTTP) source.FS {
	e := layers.Entry{
		Path: fileName(op.URL, op.Filename, d.Disposition),
		Kind: layers.File, Mode: 0o600, Size: d.Size, Sum: layers.SumOf(d.Digest),
	}
	if op.Perm != nil && *op.Perm != 0 {
		e.Mode = *op.Perm & 0o7777
	}
	if op.UID != nil {
		e.UID = *op.UID
	}
	if op.GID != nil {
		e.GID = *op.GID
	}
	if t, err := http.ParseTime(d.LastModified); err == nil {
		e.ModTime = layers.UnixNano(t)
	}
	forget := func() error {
		if d.dir == "" {
			return nil // it was offered
		}
		return os.RemoveAll(filepath.Join(d.dir, "record"))
	}
	return &oneFile{entry: e, body: d.body, damaged: forget}
}

// fileName is the name asked for, or the server's, or the last part of the
// address. It is never a path.
func fileName(address, wanted, disposition string) string {
	if wanted != "" {
		return pathutil.SafeFileName(wanted)
	}
	if _, params, err := mime.ParseMediaType(disposition); err == nil {
		if name := params["filename"]; name != "" && !strings.HasSuffix(name, "/") {
			return pathutil.SafeFileName(name)
		}
	}
	if u, err := url.Parse(address); err == nil {
		return pathutil.SafeFileName(strings.TrimPrefix(path.Base(u.Path), "/"))
	}
	return pathutil.SafeFileName("")
}
