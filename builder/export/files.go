package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
)

// rootfs is the root file system of one platform, or a directory of it, as it
// goes into an output.
type rootfs struct {
	image Image
	view  *layers.View
	// source is the directory that is the output's root.
	source string
	// prefix is where it goes in the output.
	prefix string
}

// files writes the outputs that are files.
func (w *writing) files(ctx context.Context, o Output, part func(string) func()) error {
	roots, err := w.roots(ctx, o)
	if err != nil {
		return err
	}
	done := part("copying files")
	switch {
	case o.Type == Local:
		err = w.writeLocal(ctx, o, roots)
	case o.Stdout():
		err = fill(w.Stdout, func(f io.Writer) error { return w.writeTar(ctx, f, roots) })
	default:
		err = WriteFile(ctx, o.Dest, func(f io.Writer) error { return w.writeTar(ctx, f, roots) })
	}
	if err != nil {
		return fmt.Errorf("writing the files: %w", err)
	}
	done()
	if !o.Stdout() {
		w.place(nil, o.Dest)
	}
	return nil
}

// roots opens the file systems, in the order of their prefixes.
func (w *writing) roots(ctx context.Context, o Output) ([]rootfs, error) {
	split := len(w.targets) > 1 || w.opts.Index
	if o.PlatformSplit != nil {
		split = *o.PlatformSplit
	}
	var roots []rootfs
	for _, img := range w.targets {
		view, err := w.Store.View(ctx, img.Chain)
		if err != nil {
			return nil, err
		}
		r := rootfs{image: img, view: view}
		if r.source, err = view.Resolve(o.Source, true); err != nil {
			return nil, fmt.Errorf("src=%s: %w", o.Source, err)
		}
		if e, _, ok := view.Lookup(r.source); !ok || e.Kind != layers.Dir {
			return nil, fmt.Errorf("src=%s is not a directory of the image", o.Source)
		}
		if split {
			r.prefix = platformDir(platforms.FormatAll(platformOf(img.Platform, img.Config)))
		}
		roots = append(roots, r)
	}
	slices.SortStableFunc(roots, func(a, b rootfs) int { return layers.ComparePaths(a.prefix, b.prefix) })
	if !split && len(roots) > 1 {
		return roots, distinct(roots)
	}
	return roots, nil
}

// platformDir is a platform as one component of a path.
func platformDir(platform string) string {
	dir := strings.NewReplacer("/", "_", `\`, "_", ":", "_").Replace(platform)
	if strings.Trim(dir, ".") == "" {
		return strings.Repeat("_", len(dir))
	}
	return dir
}

// distinct fails when two platforms have a file at the same place.
func distinct(roots []rootfs) error {
	seen := map[string]string{}
	for _, r := range roots {
		name := platforms.FormatAll(platformOf(r.image.Platform, r.image.Config))
		err := r.walk(func(e layers.Entry, _ int) error {
			if e.Kind == layers.Dir {
				return nil
			}
			if other, ok := seen[e.Path]; ok {
				return hint.Add(fmt.Errorf("%s and %s both have /%s", other, name, e.Path), "leave platform-split=false out")
			}
			seen[e.Path] = name
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// walk calls fn for everything in the output, parents first, without the root.
// A file that was passed already under another name comes as a Hardlink to it.
// All paths are those of the output.
func (r rootfs) walk(fn func(e layers.Entry, layer int) error) error {
	names := layers.Names{}
	if r.prefix != "" {
		dir := layers.Entry{Path: r.prefix, Kind: layers.Dir, Mode: 0o755, ModTime: layers.MadeTime}
		r.clamp(&dir)
		if err := fn(dir, -1); err != nil {
			return err
		}
	}
	return r.view.Walk(func(e layers.Entry, layer int) error {
		if e.Path == r.source || !layers.Under(e.Path, r.source) {
			return nil
		}
		e.Path = r.outputPath(e.Path)
		e.Opaque = false
		r.clamp(&e)
		names.Join(&e)
		return fn(e, layer)
	})
}

// clamp gives e the time that the build was given, if any.
func (r rootfs) clamp(e *layers.Entry) {
	if r.image.Epoch != nil {
		e.ModTime = layers.UnixNano(time.Unix(*r.image.Epoch, 0))
	}
}

func (r rootfs) outputPath(p string) string {
	return path.Join(r.prefix, strings.TrimPrefix(strings.TrimPrefix(p, r.source), "/"))
}

// open returns the content of a file that walk passed.
func (w *writing) open(ctx context.Context, r rootfs, e layers.Entry, layer int) (io.ReadCloser, error) {
	inside := strings.TrimPrefix(strings.TrimPrefix(e.Path, r.prefix), "/")
	e.Path = path.Join(r.source, inside)
	stored, at, ok := r.view.Lookup(e.Path)
	if !ok || at != layer {
		return nil, fmt.Errorf("file /%s is not there any more", e.Path)
	}
	return w.Store.OpenFile(ctx, r.image.Chain[layer], stored)
}

// writeTar writes the files as one tar.
func (w *writing) writeTar(ctx context.Context, out io.Writer, roots []rootfs) error {
	tw := archive.NewWriter(out, nil)
	for _, r := range roots {
		err := r.walk(func(e layers.Entry, layer int) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if e.Kind != layers.File {
				return tw.Add(e, nil)
			}
			f, err := w.open(ctx, r, e, layer)
			if err != nil {
				return err
			}
			err = tw.Add(e, f)
			return errors.Join(err, f.Close())
		})
		if err != nil {
			return err
		}
	}
	_, _, err := tw.Close()
	return err
}
