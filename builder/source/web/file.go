package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/folder"
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
	want := ocispec.Descriptor{Digest: f.entry.Sum.Digest(), Size: f.entry.Size}
	body := io.NopCloser(io.NewSectionReader(f.body, 0, f.entry.Size))
	return archive.ContextReadCloser(ctx, &verified{archive.Verified(body, want), f}), nil
}

// verified says what to do when what was read is not what was downloaded.
type verified struct {
	io.ReadCloser
	of *oneFile
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	if !errors.Is(err, folder.ErrCorrupt) {
		return n, err
	}
	err = fmt.Errorf("the downloaded file %s was changed in the store", v.of.entry.Path)
	if failed := v.of.damaged(); failed != nil {
		err = fmt.Errorf("%w: %w", err, failed)
	}
	return n, hint.Add(err, "build again: it is downloaded anew")
}
