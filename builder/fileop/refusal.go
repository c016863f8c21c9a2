package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers/hint"
)

// fileInTheWay says that the directory p cannot be made.
func fileInTheWay(p string) error {
	return hint.Add(
		fmt.Errorf("mkdir /%s: %w", p, syscall.ENOTDIR),
		"/"+p+" is there already and is not a directory: remove it in a RUN before, or choose another place",
	)
}

// badPattern says that a source's wildcards mean nothing.
func badPattern(pattern string, err error) error {
	return hint.Add(fmt.Errorf("%w: %q", err, pattern), source.PatternHint)
}

// otherKind says that what is at p, a directory or not, stays what it is.
func otherKind(format, p string) error {
	return hint.Add(
		fmt.Errorf(format, p),
		"a copy does not turn a directory into a file, nor the reverse: remove /"+p+" in a RUN before, or copy to another place",
	)
}

// noNames says that there is no file system in which a user's or group's name
// could be looked up.
func noNames(kind, name string) error {
	return hint.Add(
		fmt.Errorf("%s %q cannot be looked up: the stage begins with scratch and has no /etc/%s", kind, name, map[string]string{"user": "passwd", "group": "group"}[kind]),
		"give the number of the "+kind,
	)
}

// badArchive says that an archive that ADD unpacks cannot be. Where err is about
// the disk, it is not the archive that has to be another.
func badArchive(src string, err error) error {
	err = fmt.Errorf("unpacking %s: %w", src, err)
	var disk *fs.PathError
	if errors.As(err, &disk) || errors.Is(err, context.Canceled) {
		return err
	}
	return hint.Add(err, "the archive itself is at fault: make it again, or take it as it is with COPY, which unpacks nothing")
}
