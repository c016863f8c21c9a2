package fileop

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"maps"
	"path"
	"runtime"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
)

// Digest returns a digest of exactly the files that sel picks, the same on
// every machine: of their paths relative to what the source matches, kinds,
// permission bits, link targets, contents, capabilities and which of them are
// hard links of one another, and of their owners, other extended attributes and
// times if the selection says so. A source that does not exist is a MissingError.
func Digest(ctx context.Context, files source.FS, sel Selection) (digest.Digest, error) {
	return List(ctx, files, sel, nil)
}

// List is Digest, and calls add with every file, if that is not nil.
func List(ctx context.Context, files source.FS, sel Selection, add func(cache.File) error) (digest.Digest, error) {
	p, err := Select(ctx, files, sel)
	if err != nil {
		return "", err
	}
	d := digester{files: p.files, sel: p.sel, list: add, sum: sha256.New(), names: map[layers.Inode]string{}}
	err = p.each(ctx, func(match string, _ layers.Entry) (func(picked) error, error) {
		match = rel(match)
		return func(f picked) error { return d.add(ctx, selectedFile{match: match, picked: f}) }, nil
	})
	if err != nil {
		return "", err
	}
	if err := d.fold(ctx); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, d.sum), nil
}

// selectedFile is a file that is picked below a match.
type selectedFile struct {
	match string
	picked
}

// digester adds up selected files, some thousands at a time: a list of all of them
// would be large.
type digester struct {
	files source.FS
	sel   Selection
	list  func(cache.File) error
	sum   hash.Hash
	found []selectedFile // not in sum yet
	// match is what the source matched last. names are the files below that which
	// have several names: where each is first, relative to match.
	match string
	names map[layers.Inode]string
}

// foundAtOnce is how many files a digester holds.
const foundAtOnce = 4096

func (d *digester) add(ctx context.Context, f selectedFile) error {
	d.found = append(d.found, f)
	if len(d.found) < foundAtOnce {
		return nil
	}
	return d.fold(ctx)
}

// fold adds what was found to the sum.
func (d *digester) fold(ctx context.Context) error {
	digests, err := contents(ctx, d.files, d.found)
	if err != nil {
		return err
	}
	var line []byte
	for i, f := range d.found {
		if f.match != d.match {
			d.match = f.match
			clear(d.names)
		}
		first := ""
		if f.entry.Kind == layers.File {
			first = d.first(f)
		}
		line = d.sel.fold(line[:0], f, digests[i], first)
		d.sum.Write(line)
		if d.list != nil {
			if err := d.list(d.sel.listed(f, digests[i], first)); err != nil {
				return err
			}
		}
	}
	d.found = d.found[:0]
	return nil
}

// first returns where a file was found first, under whatever name, relative to what
// the source matched.
func (d *digester) first(f selectedFile) string {
	if f.entry.Inode == 0 {
		return f.below
	}
	first, known := d.names[f.entry.Inode]
	if !known {
		first, d.names[f.entry.Inode] = f.below, f.below
	}
	return first
}

// contents returns the digests of those files that are regular, several of which are
// read at the same time.
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

// fold appends what counts of one file, which is at first as well, to fields. Every field is preceded by its length, so
// that no two lists of fields look the same.
func (s Selection) fold(fields []byte, p selectedFile, content digest.Digest, first string) []byte {
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
		put(first) // names of one file stay names of one file in a copy
	case layers.Symlink:
		put(e.Target)
	case layers.CharDevice, layers.BlockDevice:
		number(int64(e.DevMajor))
		number(int64(e.DevMinor))
	}
	put(e.Xattrs[capability])
	if s.Xattrs {
		if others := otherXattrs(e.Xattrs); others != "" {
			put(others)
		}
	}
	return fields
}

// kindNames are what listings call kinds.
var kindNames = map[layers.Kind]string{
	layers.File: "file", layers.Dir: "directory", layers.Symlink: "symlink", layers.Fifo: "pipe",
	layers.CharDevice: "character device", layers.BlockDevice: "block device",
}

// listed is what counts of one file, for people: what fold writes, in other words.
func (s Selection) listed(p selectedFile, content digest.Digest, first string) cache.File {
	e := p.entry
	l := cache.File{Path: e.Path, Type: kindNames[e.Kind]}
	if l.Path == "" {
		l.Path = "."
	}
	if s.Contents && p.below == "" && e.Kind == layers.Dir {
		return l
	}
	if e.Kind != layers.Symlink {
		l.Mode = uint32(e.Mode)
	}
	if s.Owners {
		l.Owner = strconv.Itoa(e.UID) + ":" + strconv.Itoa(e.GID)
	}
	switch e.Kind {
	case layers.File:
		const shown = 16 // hex digits: enough to tell two contents apart
		l.Content = content.Encoded()[:min(shown, len(content.Encoded()))]
		if first != p.below {
			l.Rest = "linked to " + first
		}
	case layers.Symlink:
		l.Content = e.Target
	case layers.CharDevice, layers.BlockDevice:
		l.Content = fmt.Sprintf("%d:%d", e.DevMajor, e.DevMinor)
	}
	l.Rest += e.Xattrs[capability]
	if s.Xattrs {
		l.Rest += otherXattrs(e.Xattrs)
	}
	if s.Times {
		l.Rest += fmt.Sprintf(" at %d", seconds(e.ModTime))
	}
	return l
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
