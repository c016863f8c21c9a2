package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sinter-build/sinter/layers"
)

// walk returns the table of contents of a directory. Digests are unknown: nothing is
// read.
func walk(ctx context.Context, dir string) (*layers.Tree, error) {
	t := &layers.Tree{}
	type file struct{ dev, ino uint64 }
	names := map[file]string{} // the first name of files with several
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		e, ok := describe(rel, info)
		if !ok {
			return nil
		}
		if e.Kind == layers.Symlink {
			if e.Target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && e.Kind == layers.File && st.Nlink > 1 {
			id := file{uint64(st.Dev), st.Ino}
			if first, ok := names[id]; ok {
				e = e.LinkTo(first)
			} else {
				names[id] = e.Path
			}
		}
		t.Entries = append(t.Entries, e)
		return nil
	})
	t.Sort()
	return t, err
}

// describe returns a file as an entry. Sockets are left out.
func describe(path string, info fs.FileInfo) (layers.Entry, bool) {
	e := layers.Entry{Path: path, Mode: layers.UnixMode(info.Mode()), ModTime: info.ModTime().UnixNano()}
	if path == "." {
		e.Path = ""
	}
	switch info.Mode().Type() {
	case 0:
		e.Kind, e.Size = layers.File, info.Size()
	case fs.ModeDir:
		e.Kind = layers.Dir
	case fs.ModeSymlink:
		e.Kind = layers.Symlink
	case fs.ModeNamedPipe:
		e.Kind = layers.Fifo
	case fs.ModeDevice:
		e.Kind = layers.BlockDevice
	case fs.ModeDevice | fs.ModeCharDevice:
		e.Kind = layers.CharDevice
	default:
		return e, false
	}
	return e, true
}
