// Package files writes the files of root file systems: into a directory, or as a tar.
package files

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/store"
)

// rootfs is the root file system of one platform, or a directory of it, as it
// goes into an output.
type rootfs struct {
	part assemble.Part
	view *layers.View
	// source is the directory that is the output's root.
	source string
	// prefix is where it goes in the output.
	prefix string
	// statements are what is attested of the files, by their names in the output.
	statements map[string][]byte
}

// Files are the root file systems of an output, in the order of their places in it.
type Files struct {
	store *store.Store
	roots []rootfs
	// merged says that several roots are in one directory.
	merged bool
}

// Options say which files an output has.
type Options struct {
	// Source is the directory that is the output's root; "" is all.
	Source string
	// Split makes a directory for each platform.
	Split bool
	// Platforms says that files of several platforms may be told apart by their names.
	Platforms bool
	// Asked are the attestations that there will be; Prefix begins their names.
	Asked  []attest.Attestation
	Prefix string
}

// Open opens the files of parts, with what is attested of them.
func Open(ctx context.Context, s *store.Store, parts []assemble.Part, o Options) (*Files, error) {
	f := &Files{store: s}
	source, split := o.Source, o.Split
	for _, p := range parts {
		view, err := s.View(ctx, p.Chain)
		if err != nil {
			return nil, err
		}
		r := rootfs{part: p, view: view}
		if r.source, err = view.Resolve(source, true); err != nil {
			return nil, fmt.Errorf("src=%s: %w", source, err)
		}
		if e, _, ok := view.Lookup(r.source); !ok || e.Kind != layers.Dir {
			return nil, fmt.Errorf("src=%s is not a directory of the image", source)
		}
		if split {
			r.prefix = platformDir(r.platform())
		}
		if err := f.attest(ctx, &r, o); err != nil {
			return nil, err
		}
		f.roots = append(f.roots, r)
	}
	slices.SortStableFunc(f.roots, func(a, b rootfs) int { return layers.ComparePaths(a.prefix, b.prefix) })
	if f.merged = !split && len(f.roots) > 1; f.merged {
		return f, distinct(f.roots)
	}
	return f, nil
}

// platform is the file system's, as people write it.
func (r rootfs) platform() string {
	return platforms.FormatAll(assemble.PlatformOf(r.part))
}

// platformDir is a platform as one component of a path.
func platformDir(platform string) string {
	dir := strings.NewReplacer("/", "_", `\`, "_", ":", "_").Replace(platform)
	if strings.Trim(dir, ".") == "" {
		return strings.Repeat("_", len(dir))
	}
	return dir
}

// distinct fails when two platforms have different things at the same place; directories
// are one.
func distinct(roots []rootfs) error {
	type owner struct {
		platform string
		dir      bool
	}
	seen := map[string]owner{}
	for _, r := range roots {
		name := r.platform()
		err := r.walk(func(e layers.Entry, _ int) error {
			dir := e.Kind == layers.Dir
			other, ok := seen[e.Path]
			if ok && !(dir && other.dir) {
				return hint.Add(fmt.Errorf("%s and %s both have /%s", other.platform, name, e.Path), "leave platform-split=false out")
			}
			seen[e.Path] = owner{name, dir}
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
	fn, rest := r.withStatements(fn)
	err := r.view.Walk(func(e layers.Entry, layer int) error {
		if e.Path == r.source || !layers.Under(e.Path, r.source) {
			return nil
		}
		e.Path = r.outputPath(e.Path)
		e.Opaque = false
		r.clamp(&e)
		names.Join(&e)
		return fn(e, layer)
	})
	if err != nil {
		return err
	}
	return rest()
}

// clamp gives e the time that the build was given, if any.
func (r rootfs) clamp(e *layers.Entry) {
	if r.part.Epoch != nil {
		e.ModTime = layers.UnixNano(time.Unix(*r.part.Epoch, 0))
	}
}

func (r rootfs) outputPath(p string) string {
	return path.Join(r.prefix, strings.TrimPrefix(strings.TrimPrefix(p, r.source), "/"))
}

// open returns the content of a file that walk passed; how is the store's OpenFile or
// OpenUnverified.
func (r rootfs) open(ctx context.Context, how opener, e layers.Entry, layer int) (io.ReadCloser, error) {
	if layer == statementLayer {
		return io.NopCloser(bytes.NewReader(r.statements[e.Path])), nil
	}
	inside := strings.TrimPrefix(strings.TrimPrefix(e.Path, r.prefix), "/")
	e.Path = path.Join(r.source, inside)
	stored, at, ok := r.view.Lookup(e.Path)
	if !ok || at != layer {
		return nil, fmt.Errorf("file /%s is not there any more", e.Path)
	}
	return how(ctx, r.part.Chain[layer], stored)
}

type opener func(context.Context, layers.Layer, layers.Entry) (io.ReadCloser, error)

// WriteTar writes the files as one tar.
func (f *Files) WriteTar(ctx context.Context, out io.Writer) error {
	tw := archive.NewWriter(out, nil)
	err := f.walk(func(r rootfs, e layers.Entry, layer int) error {
		return archive.Add(ctx, tw, e, func() (io.ReadCloser, error) { return r.open(ctx, f.store.OpenUnverified, e, layer) })
	})
	if err != nil {
		return err
	}
	_, _, err = tw.Close()
	return err
}

// walk calls fn for everything in the output, in the order of paths. Directories that
// several platforms have come once, as the last one has them: so WriteTo leaves them too.
func (f *Files) walk(fn func(r rootfs, e layers.Entry, layer int) error) error {
	type placed struct {
		root  rootfs
		entry layers.Entry
		layer int
	}
	pass := fn
	var all []placed
	if f.merged {
		pass = func(r rootfs, e layers.Entry, layer int) error {
			all = append(all, placed{r, e, layer})
			return nil
		}
	}
	for _, r := range f.roots {
		if err := r.walk(func(e layers.Entry, layer int) error { return pass(r, e, layer) }); err != nil {
			return err
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return layers.ComparePaths(a.entry.Path, b.entry.Path) })
	for n, p := range all {
		if n+1 < len(all) && p.entry.Path == all[n+1].entry.Path {
			continue
		}
		if err := fn(p.root, p.entry, p.layer); err != nil {
			return err
		}
	}
	return nil
}
