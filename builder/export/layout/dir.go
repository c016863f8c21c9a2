package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/export/place"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/image"
)

// WriteDir writes the image into the OCI layout at dir, which is made when it
// is not there. Images that the layout has stay, except those whose names the
// new one takes. index.json comes last and in one rename; of a layout that cannot
// be written nothing new stays. No symlink in the layout leads out of it. warn gets
// what people should know.
func WriteDir(ctx context.Context, list []Named, dir string, warn func(text string)) error {
	return write(ctx, list, dir, place.Turns{Store: list[0].Store, Wait: place.MaxWait, Warn: warn})
}

func write(ctx context.Context, list []Named, dir string, t place.Turns) error {
	var made []string
	if err := makeDirs(dir, &made); err != nil {
		return place.Error(dir, err)
	}
	err := writeIn(ctx, list, dir, t)
	if err != nil {
		for _, name := range slices.Backward(made) {
			// A directory goes when nothing else is in it.
			_ = os.Remove(name)
		}
	}
	return err
}

func writeIn(ctx context.Context, list []Named, dir string, t place.Turns) error {
	root, err := place.OpenDir(dir)
	if err != nil {
		return place.Error(dir, err)
	}
	defer root.Close()
	release, err := t.Take(ctx, root)
	if err != nil {
		return err
	}
	defer release()
	w := &writer{root: root}
	if err := w.write(ctx, list); err != nil {
		for _, name := range slices.Backward(w.made) {
			_ = root.Remove(name)
		}
		return fmt.Errorf("writing the layout %s: %w", dir, err)
	}
	return nil
}

// writer writes below root. made is what is new there, directories first.
type writer struct {
	root *os.Root
	made []string
}

func (w *writer) write(ctx context.Context, list []Named) error {
	files, err := smallFiles(list, false)
	if err != nil {
		return err
	}
	index, err := mergeIndex(w.root, indexOf(list))
	if err != nil {
		return err
	}
	// What a killed process left may be of a blob that nobody writes again.
	if d, err := w.root.Open(path.Join(ocispec.ImageBlobsDir, string(digest.SHA256))); err == nil {
		err := place.RemoveStale(int(d.Fd()), ".")
		if err := errors.Join(err, d.Close()); err != nil {
			return err
		}
	}
	for _, img := range list {
		for _, d := range img.Blobs() {
			if err := w.blob(ctx, img.Image, d); err != nil {
				return err
			}
		}
	}
	if err := w.file(ocispec.ImageLayoutFile, bytes.NewReader(files[ocispec.ImageLayoutFile])); err != nil {
		return err
	}
	return w.file(ocispec.ImageIndexFile, bytes.NewReader(index))
}

// file writes a file, in place of what has its name.
func (w *writer) file(name string, r io.Reader) error {
	p, err := place.In(w.root, path.Dir(name), path.Base(name))
	if err != nil {
		return err
	}
	defer p.Close()
	return place.Replace(p, func(out io.Writer) error {
		_, err := io.Copy(out, r)
		return err
	})
}

func (w *writer) blob(ctx context.Context, b *stored.Image, d ocispec.Descriptor) error {
	name := blobPath(d.Digest)
	info, err := w.root.Lstat(name)
	there := err == nil
	if there && info.Mode().IsRegular() && info.Size() == d.Size {
		return nil
	}
	if err := w.dir(path.Dir(name)); err != nil {
		return err
	}
	r, err := b.Open(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	err = w.file(name, archive.ContextReader(ctx, r))
	// What was there before is not ours to remove.
	if err == nil && !there {
		w.made = append(w.made, name)
	}
	return err
}

// dir makes a directory with those above it.
func (w *writer) dir(name string) error {
	if info, err := w.root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if up := path.Dir(name); up != "." {
		if err := w.dir(up); err != nil {
			return err
		}
	}
	err := w.root.Mkdir(name, 0o755)
	if err == nil {
		w.made = append(w.made, name)
	}
	return err
}

// makeDirs is os.MkdirAll that adds the directories it makes to made.
func makeDirs(dir string, made *[]string) error {
	err := os.Mkdir(dir, 0o755)
	if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err = makeDirs(parent, made); err == nil {
			err = os.Mkdir(dir, 0o755)
		}
	}
	if err == nil {
		*made = append(*made, dir)
	}
	if info, serr := os.Stat(dir); serr == nil && info.IsDir() {
		return nil
	}
	return err
}

// mergeIndex is the index.json of root with the entries of added.
func mergeIndex(root *os.Root, added ocispec.Index) ([]byte, error) {
	var old ocispec.Index
	data, err := hostfile.ReadIn(root, ocispec.ImageIndexFile, image.MaxIndex)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &old); err != nil {
			return nil, hint.Add(fmt.Errorf("its %s is damaged: %w", ocispec.ImageIndexFile, err), "remove the directory, or choose another")
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	merged := added
	merged.Manifests = slices.DeleteFunc(old.Manifests, func(d ocispec.Descriptor) bool {
		return slices.ContainsFunc(added.Manifests, func(n ocispec.Descriptor) bool { return sameName(d, n) })
	})
	merged.Manifests = append(merged.Manifests, added.Manifests...)
	return json.Marshal(merged)
}

func sameName(a, b ocispec.Descriptor) bool {
	name := a.Annotations[ocispec.AnnotationRefName]
	if name != b.Annotations[ocispec.AnnotationRefName] {
		return false
	}
	return name != "" || a.Digest == b.Digest
}
