package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hostfile"
)

// steady reads a file and fails when it is not, from before the first byte
// until after the last one, in the state that it is wanted in. It does without
// an os.File, which would ask the kernel thrice what kind of file it is.
type steady struct {
	fd   int
	name string
	want stamp
	// read counts bytes.
	read int64
	// hash and digest, when set, are for a content that is known.
	hash   hash.Hash
	digest [sha256.Size]byte
}

// steady opens a file that is in the state want.
func (l *Directory) steady(name string, want stamp) (*steady, error) {
	fd, err := l.openFD(name, unix.O_RDONLY)
	if missing(err) {
		return nil, &ChangedError{Path: name}
	}
	if err != nil {
		return nil, err
	}
	r := &steady{fd: fd, name: name, want: want}
	if err := r.check(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// ChangedError says that a file of a context changed while a build was
// reading it.
type ChangedError struct{ Path string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s changed while it was being read", e.Path)
}

// HintText says what to do about it.
func (e *ChangedError) HintText() string {
	return "build again when nothing writes to the context any more, or leave the file out with .dockerignore"
}

func (r *steady) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return fmt.Errorf("reading %s: %w", r.name, err)
	}
	if stampOf(&st) != r.want {
		return &ChangedError{Path: r.name}
	}
	return nil
}

func (r *steady) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := unix.Read(r.fd, p)
	for err == unix.EINTR {
		n, err = unix.Read(r.fd, p)
	}
	if err != nil {
		return 0, &fs.PathError{Op: "read", Path: r.name, Err: err}
	}
	if n > 0 {
		if r.read += int64(n); r.read > r.want.size {
			return 0, &ChangedError{Path: r.name}
		}
		if r.hash != nil {
			r.hash.Write(p[:n])
		}
		return n, nil
	}
	if err := r.check(); err != nil {
		return 0, err
	}
	if r.hash != nil && !bytes.Equal(r.hash.Sum(nil), r.digest[:]) {
		return 0, &ChangedError{Path: r.name}
	}
	return 0, io.EOF
}

func (r *steady) Close() error {
	if r.fd < 0 {
		return nil
	}
	err := unix.Close(r.fd)
	r.fd = -1
	return err
}

// attempts is how often a file that is being changed is read again.
const attempts = 3

// content returns the digest of a file and the state of the file that it is of.
// When the file is not in the state s any more, its new state counts from now on.
func (l *Directory) content(ctx context.Context, name string, s *seen) (*seen, record, error) {
	for i := 0; ; i++ {
		if err := ctx.Err(); err != nil {
			return nil, record{}, context.Cause(ctx)
		}
		if s == nil || s.kind != layers.File {
			return nil, record{}, &ChangedError{Path: name}
		}
		if r, s, ok := l.recorded(name); ok {
			return s, r, nil
		}
		if r, ok := l.index.get(name); ok && r.stamp == s.stamp {
			return s, r, nil
		}
		r, err := l.hashOnce(ctx, name, s.stamp)
		if err == nil {
			err = l.record(name, r)
		}
		if err == nil {
			continue
		}
		if _, changed := err.(*ChangedError); !changed || i == attempts {
			return nil, record{}, err
		}
		if s, err = l.lookAgain(name); err != nil {
			return nil, record{}, err
		}
	}
}

// recorded returns the digest of a file that was hashed, and what was seen of it.
func (l *Directory) recorded(name string) (record, *seen, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen[name]
	if s == nil || s.sum == nil {
		return record{}, nil, false
	}
	return record{stamp: s.stamp, digest: *s.sum}, s, true
}

// record keeps the digest of a file, unless there is one already: from then on
// neither that nor what was seen of the file changes, since keys are made of both.
// It fails with a ChangedError when another state of the file counts by now.
func (l *Directory) record(name string, r record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen[name]
	switch {
	case s != nil && s.sum != nil:
	case s == nil || s.stamp != r.stamp:
		return &ChangedError{Path: name}
	default:
		sum := r.digest // apart from the rest of r
		s.sum = &sum
	}
	return nil
}

// lookAgain returns what is at a path now, or what counts there since the file was
// hashed.
func (l *Directory) lookAgain(name string) (*seen, error) {
	l.mu.Lock()
	if s := l.seen[name]; s == nil || s.sum == nil {
		delete(l.seen, name)
	}
	l.mu.Unlock()
	return l.lookup(name)
}

func (l *Directory) hashOnce(ctx context.Context, name string, want stamp) (record, error) {
	r, err := l.steady(name, want)
	if err != nil {
		return record{}, err
	}
	defer r.Close()
	h := sha256.New()
	buf := make([]byte, min(max(want.size+1, 512), 256<<10))
	if _, err := io.CopyBuffer(onlyWriter{h}, archive.ContextReader(ctx, r), buf); err != nil {
		return record{}, err
	}
	rec := record{stamp: want}
	h.Sum(rec.digest[:0])
	return rec, nil
}

// onlyWriter keeps io.CopyBuffer from choosing another buffer.
type onlyWriter struct{ io.Writer }

// maxReadFile is how long a file may be that is read at once, in bytes: Dockerfiles
// and ignore files are.
const maxReadFile = 16 << 20

// ReadFile returns the content of a file of the directory; symlinks are
// followed inside it.
func (l *Directory) ReadFile(name string) ([]byte, error) {
	at, err := layers.Resolve(l.entry, name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f, err := l.open(at, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &hostfile.KindError{Path: name, Mode: fi.Mode()}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxReadFile+1))
	if err == nil && len(data) > maxReadFile {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it has more than %d bytes", maxReadFile)}
	}
	return data, err
}

// Stat returns what a path leads to; symlinks are followed inside the
// directory.
func (l *Directory) Stat(name string) (fs.FileInfo, error) {
	at, err := layers.Resolve(l.entry, name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return os.Lstat(filepath.Join(l.dir, at))
}

// Link returns what the symlink at a path points to; "" when there is none.
func (l *Directory) Link(name string) (string, error) {
	e, ok, err := l.entry(name)
	if err != nil || !ok || e.Kind != layers.Symlink {
		return "", err
	}
	return e.Target, nil
}

// ReadDir returns what is in dir, sorted, of that only the names that match
// pattern unless it is "".
func (l *Directory) ReadDir(dir, pattern string) ([]fs.FileInfo, error) {
	at, err := layers.Resolve(l.entry, dir, true)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: err}
	}
	found, err := os.ReadDir(filepath.Join(l.dir, at))
	if err != nil {
		return nil, err
	}
	var infos []fs.FileInfo
	for _, d := range found {
		if pattern != "" {
			if ok, err := filepath.Match(pattern, d.Name()); err != nil || !ok {
				continue
			}
		}
		fi, err := d.Info()
		if err != nil {
			return nil, err
		}
		infos = append(infos, fi)
	}
	return infos, nil
}

// entry is lookup as Resolve wants it.
func (l *Directory) entry(name string) (layers.Entry, bool, error) {
	s, err := l.lookup(name)
	if err != nil || s == nil {
		return layers.Entry{}, false, err
	}
	return s.entry(), true, nil
}
