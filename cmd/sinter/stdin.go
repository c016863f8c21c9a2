package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/remote"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/parser"
)

// stdinContext takes a context, or a Dockerfile without any, from standard
// input. A context is the same as one from a server.
func (o *opening) stdinContext(ctx context.Context) error {
	if err := o.readStdin(ctx); err != nil {
		return err
	}
	isArchive, err := archive.IsArchive(io.NewSectionReader(o.in.stdin, 0, math.MaxInt64))
	if err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	if isArchive {
		address, err := o.in.web.Offer(ctx, o.in.stdin)
		if err != nil {
			return err
		}
		o.req.Context, o.req.Dockerfile = address, o.flags.file
		if parser.IsHTTP(o.flags.file) {
			return o.foreignDockerfile(ctx)
		}
		return nil
	}
	if o.flags.file != "" {
		return usagef("standard input is a Dockerfile, not an archive: -f cannot name another one")
	}
	s, err := o.store()
	if err != nil {
		return err
	}
	empty, err := s.TempDir("empty-")
	if err != nil {
		return err
	}
	if err := o.openLocal("context", empty); err != nil {
		return err
	}
	return o.stdinDockerfile(ctx)
}

// stdinDockerfile keeps the Dockerfile that standard input was found to be. The
// copy of standard input stays at its beginning, since it may be handed on.
func (o *opening) stdinDockerfile(ctx context.Context) error {
	return o.keepDockerfile(ctx, io.NewSectionReader(o.in.stdin, 0, hostfile.MaxText+1), "stdin")
}

// foreignDockerfile takes the Dockerfile from standard input or from a server.
func (o *opening) foreignDockerfile(ctx context.Context) error {
	if o.flags.file == "-" {
		if err := o.readStdin(ctx); err != nil {
			return err
		}
		return o.stdinDockerfile(ctx)
	}
	const name = "Dockerfile"
	src, err := o.req.SourceOp(parser.Source{Identifier: o.flags.file, Attrs: map[string]string{"http.filename": name}})
	if err != nil {
		return fmt.Errorf("the Dockerfile: %w", err)
	}
	op, isHTTP := src.(parser.HTTP)
	if !isHTTP {
		return fmt.Errorf("the Dockerfile: the source policy makes it %T, not a download", src)
	}
	if text := parser.PasswordWarning(op.URL); text != "" {
		o.warn(text)
	}
	var f fs.File
	err = o.screen.during(ctx, "[internal] load "+remote.WithoutUser(op.URL), func(func(progress.Update)) error {
		files, err := o.in.web.Files(ctx, op)
		if err == nil {
			f, err = source.Standard(ctx, files).Open(name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the Dockerfile: %w", err)
	}
	defer f.Close()
	return o.keepDockerfile(ctx, f, remote.WithoutUser(op.URL))
}

// pipedDockerfile takes the Dockerfile from what is not a regular file, as a
// shell's <(command).
func (o *opening) pipedDockerfile(ctx context.Context, path string) error {
	data, err := o.files.Read(ctx, path, hostfile.MaxText)
	if is[*hostfile.SizeError](err) {
		return dockerfileTooLong(path)
	}
	if err != nil {
		return fmt.Errorf("the Dockerfile: %w", err)
	}
	return o.keepDockerfile(ctx, bytes.NewReader(data), path)
}

// keepDockerfile copies the Dockerfile to a directory of its own. shown is what
// people call it.
func (o *opening) keepDockerfile(ctx context.Context, r io.Reader, shown string) error {
	o.req.Shown, o.req.LoneDockerfile = shown, true
	s, err := o.store()
	if err != nil {
		return err
	}
	dir, err := s.TempDir("dockerfile-")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "Dockerfile")
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(r, hostfile.MaxText+1))
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("reading the Dockerfile: %w", err)
	}
	if n > hostfile.MaxText {
		return dockerfileTooLong(shown)
	}
	return o.dockerfile(ctx, path)
}

func dockerfileTooLong(shown string) error {
	return fmt.Errorf("the Dockerfile %s is longer than %d bytes", shown, hostfile.MaxText)
}

// readStdin copies standard input to a file without a name, so that it can be
// read twice and handed on.
func (o *opening) readStdin(ctx context.Context) (err error) {
	o.in.stdin, err = o.spool(ctx)
	return err
}

func (a *app) spool(ctx context.Context) (*os.File, error) {
	if f, ok := a.stdin.(*os.File); ok {
		info, err := f.Stat()
		if err == nil && info.Mode().IsRegular() {
			// If a part of it was read before us, the rest counts.
			if at, err := f.Seek(0, io.SeekCurrent); err != nil || at == 0 {
				return f, err
			}
		}
	}
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	dir, err := s.TempDir("stdin-")
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "stdin")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	in := interruptible(ctx, a.stdin)
	defer in.Close()
	if _, err = io.Copy(f, in); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading standard input: %w", err), f.Close())
	}
	return f, nil
}
