package export

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

	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/image"
)

// WriteLayout writes the image into the OCI layout at dir, which is made when it
// is not there. Images that the layout has stay, except those whose names the
// new one takes. index.json comes last and in one rename; of a layout that cannot
// be written nothing new stays. No symlink in the layout leads out of it. warn gets
// what people should know.
func WriteLayout(ctx context.Context, images []Named, dir string, warn func(text string)) error {
	return writeLayout(ctx, images, dir, turns{images[0].store, maxDirWait, warn})
}

func writeLayout(ctx context.Context, images []Named, dir string, t turns) error {
	var made []string
	if err := makeDirs(dir, &made); err != nil {
		return placed(dir, err)
	}
	err := writeLayoutIn(ctx, images, dir, t)
	if err != nil {
		for _, name := range slices.Backward(made) {
			// A directory goes when nothing else is in it.
			_ = os.Remove(name)
		}
	}
	return err
}

func writeLayoutIn(ctx context.Context, images []Named, dir string, t turns) error {
	root, err := openDest(dir)
	if err != nil {
		return placed(dir, err)
	}
	defer root.Close()
	release, err := t.take(ctx, root)
	if err != nil {
		return err
	}
	defer release()
	w := &layoutWriter{root: root}
	if err := w.write(ctx, images); err != nil {
		for _, name := range slices.Backward(w.made) {
			_ = root.Remove(name)
		}
		return fmt.Errorf("writing the layout %s: %w", dir, err)
	}
	return nil
}

// layoutWriter writes below root. made is what is new there, directories first.
type layoutWriter struct {
	root *os.Root
	made []string
}

func (w *layoutWriter) write(ctx context.Context, images []Named) error {
	files, err := layoutFiles(images, OCI)
	if err != nil {
		return err
	}
	index, err := mergeLayout(w.root, layoutIndex(images))
	if err != nil {
		return err
	}
	// What a killed process left may be of a blob that nobody writes again.
	if d, err := w.root.Open(path.Join(ocispec.ImageBlobsDir, string(digest.SHA256))); err == nil {
		err := removeStaleIn(int(d.Fd()), ".")
		if err := errors.Join(err, d.Close()); err != nil {
			return err
		}
	}
	for _, img := range images {
		for _, d := range img.Blobs() {
			if err := w.blob(ctx, img.Built, d); err != nil {
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
func (w *layoutWriter) file(name string, r io.Reader) error {
	p, err := placeIn(w.root, path.Dir(name), path.Base(name))
	if err != nil {
		return err
	}
	defer p.Close()
	return replace(p, func(out io.Writer) error {
		_, err := io.Copy(out, r)
		return err
	})
}

func (w *layoutWriter) blob(ctx context.Context, b *Built, d ocispec.Descriptor) error {
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
func (w *layoutWriter) dir(name string) error {
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

// mergeLayout is the index.json of root with the entries of added.
func mergeLayout(root *os.Root, added ocispec.Index) ([]byte, error) {
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
