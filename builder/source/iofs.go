package source

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/sinter-build/sinter/layers"
)

// Standard returns f as the standard library sees a tree of files. Opening a
// file follows symlinks, inside the tree.
func Standard(ctx context.Context, f FS) fs.FS {
	return standard{open: func(e layers.Entry) (io.ReadCloser, error) { return f.Open(ctx, e) }, files: f}
}

type standard struct {
	files FS
	open  func(layers.Entry) (io.ReadCloser, error)
}

// Open implements fs.FS.
func (s standard) Open(name string) (fs.File, error) {
	fail := func(err error) (fs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	at, err := s.files.Resolve(name, true)
	if err != nil {
		return fail(err)
	}
	e, ok, err := s.files.Lookup(at)
	if err != nil {
		return fail(err)
	}
	if !ok {
		return fail(fs.ErrNotExist)
	}
	f := &standardFile{standard: s, info: entryInfo{e, path.Base(name)}}
	if e.Kind == layers.File {
		if f.content, err = s.open(e); err != nil {
			return fail(err)
		}
	}
	return f, nil
}

// standardFile is an open file or directory.
type standardFile struct {
	standard
	info    entryInfo
	content io.ReadCloser // nil unless it is a regular file
	listed  bool
}

func (f *standardFile) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *standardFile) Read(p []byte) (int, error) {
	if f.content == nil {
		return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: errors.New("it is not a regular file")}
	}
	return f.content.Read(p)
}

func (f *standardFile) Close() error {
	if f.content == nil {
		return nil
	}
	return f.content.Close()
}

// ReadDir implements fs.ReadDirFile, all at once whatever the number.
func (f *standardFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if f.listed {
		if n > 0 {
			return nil, io.EOF
		}
		return nil, nil
	}
	f.listed = true
	entries, err := f.files.ReadDir(f.info.entry.Path)
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, len(entries))
	for i, e := range entries {
		list[i] = fs.FileInfoToDirEntry(entryInfo{e, path.Base(e.Path)})
	}
	return list, nil
}

// entryInfo is an entry as the standard library describes files.
type entryInfo struct {
	entry layers.Entry
	name  string
}

func (i entryInfo) Name() string       { return i.name }
func (i entryInfo) Size() int64        { return i.entry.Size }
func (i entryInfo) ModTime() time.Time { return time.Unix(0, i.entry.ModTime) }
func (i entryInfo) IsDir() bool        { return i.entry.Kind == layers.Dir }
func (i entryInfo) Sys() any           { return nil }
func (i entryInfo) Mode() fs.FileMode  { return i.entry.FileMode() }
