package fileop

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
)

// Digest returns a digest of exactly the files that sel picks, the same on
// every machine: of their paths relative to what the source matches, kinds,
// permission bits, link targets, contents, capabilities and which of them are
// hard links of one another, and of their owners and other extended attributes if
// sel says so. Times do not count unless it says so. A source that does not exist is a MissingError.
func Digest(ctx context.Context, files source.FS, sel Selection) (digest.Digest, error) {
	found, err := sel.find(ctx, files)
	if err != nil {
		return "", err
	}
	digests, err := contents(ctx, files, found)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	names := map[string]string{}
	match, line := "", []byte(nil)
	for i, p := range found {
		if p.match != match {
			match = p.match
			clear(names)
		}
		line = sel.fold(line[:0], p, digests[i], names)
		h.Write(line)
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// selectedFile is a file that a selection picks; match is the path that the
// source matched, with the match's number as several may be one file.
type selectedFile struct {
	match string
	picked
}

// find lists what is selected.
func (s Selection) find(ctx context.Context, files source.FS) ([]selectedFile, error) {
	sources := []string{rel(s.Source)}
	var err error
	if s.Wildcard {
		if sources, err = matches(ctx, files, s.Source, s.Follow); err != nil {
			return nil, err
		}
	}
	f, err := newFilter(s.Include, s.Exclude)
	if err != nil {
		return nil, err
	}
	var found []selectedFile
	for _, src := range sources {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		from, err := lookupSource(files, src, s.Follow)
		if err != nil {
			return nil, err
		}
		err = f.walk(ctx, files, from, func(p picked) error {
			found = append(found, selectedFile{match: src, picked: p})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, s.checkRequired(files, found)
}

// checkRequired fails when a path that must be there is not. Where the walk
// began does not count: only what is below it is copied.
func (s Selection) checkRequired(files source.FS, found []selectedFile) error {
	for _, want := range s.Required {
		ok := false
		for _, f := range found {
			ok = ok || f.below != "" && strings.HasPrefix(path.Join("/", f.match, f.below), want)
		}
		if !ok {
			return s.unmet(files, want)
		}
	}
	return nil
}

// unmet is the error for a required path that is not selected.
func (s Selection) unmet(files source.FS, want string) error {
	missing := missingIn(files, want)
	switch {
	case want == path.Join("/", s.Source):
		missing.Hint = "--parents copies what is named below a directory, not the directory itself: end the source in /* (./* in place of .)"
	case len(s.Exclude) > 0 && exists(files, want):
		missing.Hint = "it is there, but --exclude leaves it out"
	}
	return missing
}

func exists(files source.FS, p string) bool {
	_, ok, err := files.Lookup(rel(p))
	return ok && err == nil
}

// lookupSource returns what a source path stands for.
func lookupSource(files source.FS, src string, follow bool) (layers.Entry, error) {
	at, err := files.Resolve(rel(src), follow)
	if err != nil {
		if missing(err) {
			return layers.Entry{}, missingIn(files, src)
		}
		return layers.Entry{}, err
	}
	e, ok, err := files.Lookup(at)
	if err != nil {
		return layers.Entry{}, orMissing(rel(src), err)
	}
	if !ok {
		return layers.Entry{}, missingIn(files, src)
	}
	return e, nil
}

// contents returns the digests of those files that are regular, read side by
// side.
func contents(ctx context.Context, files source.FS, found []selectedFile) ([]digest.Digest, error) {
	digests := make([]digest.Digest, len(found))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	const batch = 32
	for i := 0; i < len(found); i += batch {
		group.Go(func() error {
			for k := i; k < min(i+batch, len(found)); k++ {
				e := found[k].entry
				if e.Kind != layers.File {
					continue
				}
				var err error
				if digests[k], err = files.Digest(ctx, e); err != nil {
					return fmt.Errorf("hashing /%s: %w", e.Path, err)
				}
			}
			return nil
		})
	}
	return digests, group.Wait()
}

// fold appends what counts of one file to fields. Every field is preceded by its length, so
// that no two lists of fields look the same.
func (s Selection) fold(fields []byte, p selectedFile, content digest.Digest, names map[string]string) []byte {
	e := p.entry
	put := func(text string) {
		fields = strconv.AppendInt(fields, int64(len(text)), 10)
		fields = append(fields, ':')
		fields = append(fields, text...)
	}
	number := func(n int64) { put(strconv.FormatInt(n, 10)) }
	put(path.Base("/" + p.match))
	put(p.below)
	number(int64(e.Kind))
	if s.Contents && p.below == "" && e.Kind == layers.Dir {
		return fields
	}
	if e.Kind != layers.Symlink {
		number(int64(e.Mode))
	}
	if s.Owners {
		number(int64(e.UID))
		number(int64(e.GID))
	}
	if s.Times {
		number(seconds(e.ModTime))
	}
	switch e.Kind {
	case layers.File:
		put(string(content))
		// Names of one file stay names of one file in a copy.
		key := linkKey(e)
		first, ok := names[key]
		if !ok {
			names[key] = p.below
		}
		put(first)
	case layers.Symlink:
		put(e.Link)
	case layers.CharDevice, layers.BlockDevice:
		number(e.DevMajor)
		number(e.DevMinor)
	}
	put(e.Xattrs[capability])
	if s.Xattrs {
		if others := otherXattrs(e.Xattrs); others != "" {
			put(others)
		}
	}
	return fields
}

// otherXattrs writes all extended attributes but the capability. No path of a file
// looks like the result, which begins with a zero byte.
func otherXattrs(xattrs map[string]string) string {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		if name != capability {
			b = fmt.Appendf(b, "\x00%d:%s%d:%s", len(name), name, len(xattrs[name]), xattrs[name])
		}
	}
	return string(b)
}

// linkKey is the same for all names of a regular file.
func linkKey(e layers.Entry) string {
	if e.Link != "" {
		return e.Link
	}
	return e.Path
}
