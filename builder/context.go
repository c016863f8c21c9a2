package builder

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sinter-build/sinter/builder/fileop"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// UnpackContext unpacks a context that came as an archive into the empty
// directory dir, by the rules of ADD: nothing climbs out of it. Owners do not
// matter in a context, so this works for any user.
func UnpackContext(ctx context.Context, s *store.Store, r io.Reader, dir string) error {
	tmp, err := s.TempDir("archive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	f, err := os.Create(filepath.Join(tmp, "context"))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	l, err := unpackArchive(ctx, s, tmp)
	if err != nil {
		return err
	}
	defer s.RemoveLayer(l.ID)
	t, err := s.Tree(ctx, l)
	if err != nil {
		return err
	}
	open := func(e layers.Entry) (io.ReadCloser, error) { return s.OpenFile(ctx, l, e) }
	return archive.Unpack(ctx, t, open, dir, archive.UnpackOptions{SingleUser: true})
}

// unpackArchive makes a layer of the archive called "context" in dir.
func unpackArchive(ctx context.Context, s *store.Store, dir string) (l layers.Layer, err error) {
	local, err := source.NewLocal(dir, "")
	if err != nil {
		return l, err
	}
	defer local.Close()
	w, err := s.NewWriter(ctx, store.Forms{Tar: true}, archive.Compression{})
	if err != nil {
		return l, err
	}
	defer w.Abort()
	op := parser.FileOp{Actions: []parser.FileAction{{
		Input: -1, Secondary: 0, Output: 0,
		Action: parser.Copy{Src: "/context", Dest: "/", Unpack: true, CreateDestPath: true},
	}}}
	in := fileop.Input{FS: local.Select(parser.Local{})}
	_, err = fileop.Apply(ctx, op, []fileop.Input{in}, func(int) (fileop.Writer, error) { return w, nil })
	if err != nil {
		return l, fmt.Errorf("reading the archive: %w", err)
	}
	return w.Commit(time.Now().UTC())
}
