package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anchore/syft/syft/file"

	"github.com/sinter-build/sinter/layers"
)

// resolver shows an image to syft, or one layer of it to a cataloger: then what the
// cataloger searches (listed) is the layer's, and what it looks up is the image's.
type resolver struct {
	ctx context.Context // syft's interface has none
	im  *Image
	// layer is the one that is searched; negative for the whole image.
	layer int
	// types are the MIME types of the layer's programs. Nobody asks for those of a
	// whole image.
	types map[string]string
	// store says that all layers are searched, and no paths listed but those of Nix's store.
	store bool
	// searched are the patterns that search the layer. All others are look-ups.
	searched map[string]bool
	trace    *trace // may be nil
}

var _ file.Resolver = (*resolver)(nil)

var errNotFile = errors.New("not a regular file of the image")

// location returns a file as syft calls it. Catalogers of a layer learn the IDs of
// layers, under which results are kept: the digest of a layer changes with its
// compression.
func (r *resolver) location(p place) file.Location {
	l := r.im.Layers[p.Layer]
	at := file.Coordinates{RealPath: p.real(), FileSystemID: l.ID}
	if r.layer < 0 {
		at.FileSystemID = l.Digest
	}
	return file.NewVirtualLocationFromCoordinates(at, p.access)
}

func (r *resolver) locations(found []place) []file.Location {
	list := make([]file.Location, 0, len(found))
	seen := map[string]bool{}
	for _, p := range found {
		if !seen[p.Path] {
			seen[p.Path] = true
			list = append(list, r.location(p))
		}
	}
	return list
}

// HasPath reports whether a path leads to anything.
func (r *resolver) HasPath(p string) bool {
	ok := r.im.has(p)
	r.trace.add(lookup{Kind: exists, Query: p, Answer: fmt.Sprint(ok)})
	return ok
}

// FilesByPath returns the files that paths lead to.
func (r *resolver) FilesByPath(paths ...string) ([]file.Location, error) {
	var found []place
	for _, p := range paths {
		at, ok := r.im.at(p)
		if !ok {
			r.trace.add(lookup{Kind: leads, Query: p})
			continue
		}
		r.trace.add(lookup{Kind: leads, Query: p, Answer: r.im.identify(at)})
		at.access = path.Clean("/" + p)
		found = append(found, at)
	}
	return r.locations(found), nil
}

// RelativeFileByPath returns the file that a path leads to, or nil.
func (r *resolver) RelativeFileByPath(_ file.Location, p string) *file.Location {
	if found, _ := r.FilesByPath(p); len(found) > 0 {
		return &found[0]
	}
	return nil
}

// searches returns the layer that patterns search; negative for all.
func (r *resolver) searches() int {
	if r.store {
		return -1
	}
	return r.layer
}

// FilesByGlob returns the files that patterns match.
func (r *resolver) FilesByGlob(patterns ...string) ([]file.Location, error) {
	var all []place
	for _, pattern := range patterns {
		matches, err := r.im.files.glob(pattern)
		if err != nil {
			return nil, err
		}
		layer := -1
		if r.searched[pattern] {
			layer = r.searches()
		}
		found := places(matches, layer)
		if !r.searched[pattern] {
			r.trace.add(lookup{Kind: globs, Query: pattern, Answer: r.im.identify(found...)})
		}
		all = append(all, found...)
	}
	return r.locations(all), nil
}

// FilesByMIMEType returns the programs and libraries of the layer that are of one of
// the types.
func (r *resolver) FilesByMIMEType(types ...string) ([]file.Location, error) {
	return r.locations(r.programs(types...)), nil
}

// programs returns the layer's files of some types, or of all, that the image shows.
func (r *resolver) programs(types ...string) []place {
	var found []place
	for p, t := range r.types {
		if len(types) > 0 && !slices.Contains(types, t) {
			continue
		}
		if at, ok := r.im.at("/" + p); ok && at.Layer == r.layer && at.Path == p {
			found = append(found, at)
		}
	}
	slices.SortFunc(found, func(a, b place) int { return strings.Compare(a.Path, b.Path) })
	return found
}

// AllLocations returns all files and directories that the layer brought to the image,
// but for the root; of Nix's store those of the image.
func (r *resolver) AllLocations(ctx context.Context) <-chan file.Location {
	c := make(chan file.Location)
	go func() {
		defer close(c)
		_ = r.im.view.Walk(func(e layers.Entry, layer int) error {
			if e.Path == "" || r.store && !inStore(e.Path) || r.searches() >= 0 && layer != r.layer {
				return nil
			}
			select {
			case c <- r.location(place{layers.Named{Entry: e, Layer: layer}, "/" + e.Path}):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return c
}

// entry returns what a location of ours is.
func (r *resolver) entry(l file.Location) (layers.Named, bool) {
	e, layer, ok := r.im.view.Lookup(l.RealPath)
	return layers.Named{Entry: e, Layer: layer}, ok
}

// FileContentsByLocation opens a file.
func (r *resolver) FileContentsByLocation(l file.Location) (io.ReadCloser, error) {
	n, ok := r.entry(l)
	if !ok || n.Kind != layers.File {
		return nil, fmt.Errorf("%s: %w", l.RealPath, errNotFile)
	}
	return r.im.read(r.ctx, n)
}

// FileMetadataByLocation describes a file or directory.
func (r *resolver) FileMetadataByLocation(l file.Location) (file.Metadata, error) {
	n, ok := r.entry(l)
	if !ok {
		return file.Metadata{}, fmt.Errorf("%s: %w", l.RealPath, fs.ErrNotExist)
	}
	return file.Metadata{
		FileInfo: fileInfo{n.Entry}, Path: l.RealPath, LinkDestination: n.Target,
		UserID: n.UID, GroupID: n.GID, MIMEType: r.types[n.Path],
	}, nil
}

// fileInfo is an entry as a fs.FileInfo.
type fileInfo struct{ layers.Entry }

func (i fileInfo) Name() string       { return path.Base("/" + i.Path) }
func (i fileInfo) Size() int64        { return i.Entry.Size }
func (i fileInfo) ModTime() time.Time { return time.Unix(0, i.Entry.ModTime) }
func (i fileInfo) IsDir() bool        { return i.Kind == layers.Dir }
func (i fileInfo) Sys() any           { return nil }

func (i fileInfo) Mode() fs.FileMode { return i.FileMode() }
