package output

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/assemble"
	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/layers/hint"
)

// Check finds out what cannot be written before anything is built: shared are
// the wishes that all outputs share, targets the platforms of the image.
func Check(outputs []Spec, shared assemble.Options, targets []ocispec.Platform) error {
	stdout := 0
	for _, o := range outputs {
		if o.Stdout() {
			stdout++
		}
		if err := o.checkPush(); err != nil {
			return err
		}
		if o.Type == Docker && (len(targets) > 1 || shared.Index) {
			return hint.Add(errors.New("type=docker cannot hold an image of several platforms"),
				"build one --platform, or use type=oci")
		}
		if !o.Type.isImage() {
			continue
		}
		if err := o.Options(shared).Check(targets); err != nil {
			return err
		}
	}
	if stdout > 1 {
		return hint.Add(errors.New("several outputs go to standard output"), "give all but one a file with dest=FILE")
	}
	return nil
}

// checkPush refuses attributes of a push, or of keeping, that does not take
// place.
func (o Spec) checkPush() error {
	if o.Type != Store && o.Type != Registry {
		return nil
	}
	const advice = "add push=true"
	switch {
	case o.ByDigest && !o.Pushes():
		return hint.Add(errors.New("push-by-digest=true without a push does nothing"), advice)
	case o.Insecure && !o.Pushes():
		return hint.Add(errors.New("registry.insecure=true without a push does nothing"), advice)
	case !o.Keep && !o.Pushes():
		return hint.Add(errors.New("store=false without push=true does nothing"), advice)
	case o.ByDigest && o.Tagged:
		return hint.Add(errors.New("an image cannot be pushed by digest under a name with a tag"), "leave the tag out, or push-by-digest")
	case o.DanglingOnly && o.Dangling == "":
		return hint.Add(errors.New("dangling-name-empty-only=true does nothing alone"), "add dangling-name-prefix=NAME")
	}
	return nil
}

// CheckDest finds out whether the destination can be written, so that it shows
// before a long build.
func (o Spec) CheckDest() error {
	if o.Dest == "" || o.Stdout() {
		return nil
	}
	directory := o.Type == Local || o.Directory
	if where, err := filepath.EvalSymlinks(o.Dest); err == nil && directory && isRoot(where) {
		return hint.Add(fmt.Errorf("%s is the root directory of this machine: the image's files would take the place of its own", o.Dest),
			"choose a directory; if it is meant, unpack a tar: -o type=tar,dest=- … | tar -C / -x")
	}
	if err := place.Check(o.Dest); err != nil {
		return err
	}
	info, err := os.Stat(o.Dest)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return place.Error(o.Dest, err)
	case directory && !info.IsDir():
		return hint.Add(fmt.Errorf("%s is a file, not a directory", o.Dest), "name a directory, or choose an archive as the output")
	case !directory && info.IsDir():
		return hint.Add(fmt.Errorf("%s is a directory, not a file", o.Dest), "name a file in it, such as "+filepath.Join(o.Dest, "image.tar"))
	}
	return nil
}

// isRoot reports whether dir is the root directory.
func isRoot(dir string) bool {
	abs, err := filepath.Abs(dir)
	return err == nil && abs == "/"
}
