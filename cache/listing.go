package cache

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/sinter-build/sinter/layers/folder"
)

// File is one file of a content digest, as far as it counts.
type File struct {
	Path string
	// Type is "file", "directory", "symlink" or another kind.
	Type string
	// Mode are the permission bits; 0 where they do not count.
	Mode uint32
	// Owner is UID:GID, Content what tells contents apart (of a file, the digest's
	// beginning; of a symlink its target), Rest what else counts. Each is "" where
	// it does not count.
	Owner, Content, Rest string
}

// Listing is what a content digest was made of, by path.
type Listing map[string]File

// Files is the number of files, without directories.
func (l Listing) Files() int { return l.total(nil, nil) }

// total counts the files that there are now or were before, and of directories those that
// changed.
func (l Listing) total(before Listing, changes []Change) int {
	counted := map[string]bool{}
	for _, list := range []Listing{l, before} {
		for path, f := range list {
			if f.Type != "directory" {
				counted[path] = true
			}
		}
	}
	for _, c := range changes {
		counted[c.Path] = true
	}
	return len(counted)
}

// Change is how a file differs between two listings.
type Change struct {
	Path string `json:"path"`
	// What is "added", "gone", or what of the file changed: "type", "content",
	// "mode", "owner", "attributes"; several are joined by ", ".
	What string `json:"what"`
}

// Changes compares two listings. The result is sorted by path.
func (l Listing) Changes(before Listing) []Change {
	var list []Change
	for path, f := range l {
		if was, ok := before[path]; !ok {
			list = append(list, Change{path, "added"})
		} else if what := f.differs(was); what != "" {
			list = append(list, Change{path, what})
		}
	}
	for path := range before {
		if _, ok := l[path]; !ok {
			list = append(list, Change{path, "gone"})
		}
	}
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

// differs says what of a file is not as it was; "" for nothing.
func (f File) differs(was File) string {
	if f.Type != was.Type {
		return "type"
	}
	var what []string
	for _, one := range []struct {
		name    string
		differs bool
	}{
		{"content", f.Content != was.Content},
		{"mode", f.Mode != was.Mode},
		{"owner", f.Owner != was.Owner && f.Owner != "" && was.Owner != ""},
		{"attributes", f.Rest != was.Rest},
	} {
		if one.differs {
			what = append(what, one.name)
		}
	}
	return strings.Join(what, ", ")
}

// listingHead is the first line of a listing: what it is, and its version.
const listingHead = "sinter listing 1"

// listingWriter writes files to a compressed listing.
type listingWriter struct {
	zip  *gzip.Writer
	buf  *bufio.Writer
	line []byte
}

func newListingWriter(w io.Writer) (*listingWriter, error) {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	l := &listingWriter{zip: zip, buf: bufio.NewWriter(zip)}
	_, err = fmt.Fprintln(l.buf, listingHead)
	return l, err
}

func (l *listingWriter) add(f File) error {
	l.line = f.appendLine(l.line[:0])
	_, err := l.buf.Write(l.line)
	return err
}

// appendLine appends a file as listings hold it.
func (f File) appendLine(b []byte) []byte {
	quoted := func(text string) { b = append(strconv.AppendQuote(b, text), ' ') }
	quoted(f.Path)
	quoted(f.Type)
	b = append(strconv.AppendUint(b, uint64(f.Mode), 8), ' ')
	quoted(f.Owner)
	quoted(f.Content)
	b = strconv.AppendQuote(b, f.Rest)
	return append(b, '\n')
}

func (l *listingWriter) close() error { return errors.Join(l.buf.Flush(), l.zip.Close()) }

// Limits for a listing that is read. Longer ones would take too much memory for a line of
// text, and a store may have been changed by others.
const (
	maxFiles = 100_000
	maxLine  = 1 << 20 // bytes
)

// errTooLong is a listing of more than maxFiles.
var errTooLong = errors.New("too many files to compare")

// readListing reads what a listingWriter wrote.
func readListing(r io.Reader) (Listing, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(zip)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() || lines.Text() != listingHead {
		return nil, errors.Join(folder.ErrCorrupt, lines.Err())
	}
	list := Listing{}
	for lines.Scan() {
		if len(list) == maxFiles {
			return nil, errTooLong
		}
		f, err := parseFile(lines.Text())
		if err != nil {
			return nil, err
		}
		if _, twice := list[f.Path]; twice {
			return nil, folder.ErrCorrupt
		}
		list[f.Path] = f
	}
	return list, lines.Err()
}

func parseFile(line string) (f File, err error) {
	quoted := func(to *string) {
		if err != nil {
			return
		}
		var text string
		if text, err = strconv.QuotedPrefix(line); err == nil {
			*to, err = strconv.Unquote(text)
			line = strings.TrimPrefix(line[len(text):], " ")
		}
	}
	quoted(&f.Path)
	quoted(&f.Type)
	mode, rest, _ := strings.Cut(line, " ")
	line = rest
	quoted(&f.Owner)
	quoted(&f.Content)
	quoted(&f.Rest)
	bits, modeErr := strconv.ParseUint(mode, 8, 32)
	if err = errors.Join(err, modeErr); err != nil || line != "" {
		return f, errors.Join(folder.ErrCorrupt, err)
	}
	f.Mode = uint32(bits)
	return f, nil
}
