package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
)

// oneFile is a tree of a single file, whose content lies in body.
type oneFile struct {
	entry layers.Entry
	body  *os.File
	// damaged is called when body turned out not to have the digest.
	damaged func() error
}

var rootEntry = layers.Entry{Kind: layers.Dir, Mode: 0o755, ModTime: layers.MadeTime}

func (f *oneFile) Lookup(name string) (layers.Entry, bool, error) {
	switch name {
	case "":
		return rootEntry, true, nil
	case f.entry.Path:
		return f.entry, true, nil
	}
	return layers.Entry{}, false, nil
}

func (f *oneFile) ReadDir(dir string) ([]layers.Entry, error) {
	if dir != "" {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}
	}
	return []layers.Entry{f.entry}, nil
}

func (f *oneFile) Resolve(name string, followLast bool) (string, error) {
	return layers.Resolve(f.Lookup, name, followLast)
}

func (f *oneFile) Digest(_ context.Context, e layers.Entry) (digest.Digest, error) {
	if e.Path != f.entry.Path {
		return "", &fs.PathError{Op: "open", Path: e.Path, Err: fs.ErrNotExist}
	}
	return f.entry.Sum.Digest(), nil
}

func (f *oneFile) Open(ctx context.Context, e layers.Entry) (io.ReadCloser, error) {
	if e.Path != f.entry.Path {
		return nil, &fs.PathError{Op: "open", Path: e.Path, Err: fs.ErrNotExist}
	}
	return archive.ContextReadCloser(ctx, &verified{
		r: io.NewSectionReader(f.body, 0, f.entry.Size), hash: sha256.New(), of: f,
	}), nil
}

// verified fails at the end when what was read is not what was downloaded.
type verified struct {
	r    io.Reader
	hash hash.Hash
	n    int64
	of   *oneFile
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	if err == nil || !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.n == v.of.entry.Size && layers.Sum(v.hash.Sum(nil)) == v.of.entry.Sum {
		return n, io.EOF
	}
	err = fmt.Errorf("the downloaded file %s was changed in the store", v.of.entry.Path)
	if failed := v.of.damaged(); failed != nil {
		err = fmt.Errorf("%w: %w", err, failed)
	}
	return n, hint.Add(err, "build again: it is downloaded anew")
}

func (v *verified) Close() error { return nil }
