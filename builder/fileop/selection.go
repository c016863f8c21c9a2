package fileop

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/moby/buildkit/util/suggest"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/builder/source/local"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

// Selection says which files of a file system a step reads, and what of them
// counts. It is a value: equal selections have equal strings.
type Selection struct {
	// Source is a path, or a pattern when Wildcard is set.
	Source string
	// Wildcard: Source may be a pattern (of path.Match).
	Wildcard bool
	// Follow: where a match is a symlink, what it leads to is meant.
	Follow bool
	// Include and Exclude limit what is taken from below a match.
	Include, Exclude []string
	// Required paths must be among what is selected.
	Required []string
	// Contents: of a directory that matches only the content is taken, not
	// what it is itself.
	Contents bool
	// Owners: who owns the files counts.
	Owners bool
	// Xattrs: all extended attributes count, rather than capabilities alone.
	Xattrs bool
	// Times: when files were changed counts, in whole seconds, as layers keep it.
	Times bool
}

// Subtree selects all that is below a path, as a mount shows it. Symlinks on
// the way there are followed.
func Subtree(selector string) Selection {
	return Selection{Source: path.Clean("/" + selector), Follow: true, Owners: true, Xattrs: true}
}

// Selected returns what a copy reads.
func Selected(c parser.Copy) Selection {
	return Selection{
		Source: cleanPath(c.Src), Wildcard: c.AllowWildcard, Follow: c.FollowSymlinks || c.Unpack,
		Include: c.Include, Exclude: c.Exclude, Required: c.RequiredPaths,
		Contents: c.DirContents && !c.AlwaysReplace,
		Owners:   c.Owner == nil,
	}
}

// String returns the selection in a form that is the same for the same
// selection. What is remembered of contents is found by it.
func (s Selection) String() string {
	var f cache.Fields
	f.Text("source", s.Source)
	f.Flag("wildcard", s.Wildcard)
	f.Flag("follow", s.Follow)
	f.Texts("include", s.Include)
	f.Texts("exclude", s.Exclude)
	f.Texts("required", s.Required)
	f.Flag("contents", s.Contents)
	f.Flag("owners", s.Owners)
	f.Flag("xattrs", s.Xattrs)
	f.Flag("times", s.Times)
	return f.String()
}

// cleanPath makes a path absolute and clean, and keeps a slash or "/." at its
// end: they mean something.
func cleanPath(s string) string {
	clean := path.Join("/", s)
	switch {
	case strings.HasSuffix(s, "/.") && clean == "/":
		return "/."
	case strings.HasSuffix(s, "/."):
		return clean + "/."
	case strings.HasSuffix(s, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

// rel makes a cleaned path relative to the root, as file systems want it.
func rel(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// missing reports whether err says that a path does not exist.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// orMissing returns err, or else the error that says that p is not there.
func orMissing(p string, err error) error {
	if err != nil {
		return err
	}
	return &MissingError{Path: "/" + p}
}

// MissingError says that a source does not exist.
type MissingError struct {
	Path string
	// Near is an existing path that was probably meant, or "".
	Near string
	// Ignored: the path exists, and an ignore rule leaves it out.
	Ignored bool
	// Unselected: the path exists, and the patterns that stand for sources on
	// their way to BuildKit do not match it.
	Unselected bool
	// Link is where a symlink at Path points to when nothing is there, or "".
	Link string
	// Foreign: it was looked for in a stage or an image, where no ignore
	// file counts.
	Foreign bool
	// Climbs: it was written with .. to lead out of where it is looked for.
	Climbs bool
	// Hint says what to do where that does not follow from the fields above; or "".
	Hint string
}

func (e *MissingError) Error() string { return fmt.Sprintf("%q: not found", e.Path) }

// HintText says why a file that is on disk may be missing all the same.
func (e *MissingError) HintText() string {
	switch {
	case e.Hint != "":
		return e.Hint
	case e.Link != "":
		return fmt.Sprintf("it is a symbolic link to %q, where nothing is: links do not lead out of a context or stage", e.Link)
	case e.Ignored:
		return "it is there, but an ignore rule leaves it out"
	case e.Unselected && isPattern(e.Path):
		return "it is there, but a ! at the beginning of a source, and blanks at its ends, are not taken as a part of the name: write a ? for such a character"
	case e.Unselected:
		return "it is there, but it holds nothing that the source asks for: check what follows /./"
	case e.Near != "":
		return fmt.Sprintf("did you mean %q?", e.Near)
	}
	if e.Climbs {
		return "paths outside the build context are not allowed: give a directory further up as the context, or another one with --build-context"
	}
	if e.Foreign {
		return "check the path: the stage or image that it is to come from has no such file"
	}
	if strings.HasPrefix(e.Path, "/~") {
		return "~ stands for no home directory here: sources are paths in the build context"
	}
	return "check the path, which is looked for in the build context even if it begins with /, and that no ignore rule leaves it out"
}

// missingIn is the error for a source that does not exist in files. What cannot
// be found out for the hint is left out of it.
func missingIn(files source.FS, src string) *MissingError {
	e := &MissingError{Path: "/" + rel(src), Foreign: !local.IsDirectory(files)}
	all := local.Widen(files, true)
	if found, ok, err := all.Lookup(rel(src)); ok && err == nil {
		_, left, err := local.Widen(files, false).Lookup(rel(src))
		e.Unselected = left && err == nil
		e.Ignored = !e.Unselected
		if found.Kind == layers.Symlink && leadsNowhere(all, rel(src)) {
			e.Link = found.Target
		}
		return e
	}
	dir, name := path.Split(rel(src))
	entries, err := local.Widen(files, false).ReadDir(path.Clean("/" + dir)[1:])
	if err != nil {
		return e
	}
	var names []string
	for _, entry := range entries {
		base := path.Base(entry.Path)
		if strings.EqualFold(base, name) {
			e.Near = "/" + dir + base
			return e
		}
		names = append(names, base)
	}
	// Too many names are near a short one.
	if near, ok := suggest.Search(name, names, true); ok && len(name) > 3 {
		e.Near = "/" + dir + near
	}
	return e
}

// isPattern reports whether a path, with a slash before it, is another one when it
// is read as a pattern of .dockerignore.
func isPattern(p string) bool {
	p = strings.TrimPrefix(p, "/")
	return strings.HasPrefix(p, "!") || strings.TrimSpace(p) != p
}

// leadsNowhere reports whether a symlink points to nothing.
func leadsNowhere(files source.FS, link string) bool {
	at, err := files.Resolve(link, true)
	if err != nil {
		return true
	}
	_, ok, err := files.Lookup(at)
	return err == nil && !ok
}

// Unwrap makes it an fs.ErrNotExist.
func (e *MissingError) Unwrap() error { return fs.ErrNotExist }
