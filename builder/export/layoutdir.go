package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/image"
)

// WriteLayout writes the image into the OCI layout at dir, which is made when it
// is not there. Images that the layout has stay, except those whose names the
// new one takes. index.json comes last and in one rename; of a layout that cannot
// be written nothing new stays.
func WriteLayout(ctx context.Context, images []Named, dir string) error {
	var made []string
	if err := makeDirs(dir, &made); err != nil {
		return placed(dir, err)
	}
	release, err := holdDir(ctx, dir)
	if err != nil {
		return err
	}
	defer release()
	if err := writeLayout(ctx, images, dir, &made); err != nil {
		for _, name := range slices.Backward(made) {
			// A directory goes when nothing else is in it.
			_ = os.Remove(name)
		}
		return fmt.Errorf("writing the layout %s: %w", dir, err)
	}
	return nil
}

// writeLayout adds to made what is new in dir, directories first.
func writeLayout(ctx context.Context, images []Named, dir string, made *[]string) error {
	files, err := layoutFiles(images, OCI)
	if err != nil {
		return err
	}
	index, err := mergeLayout(dir, layoutIndex(images))
	if err != nil {
		return err
	}
	// What a killed process left may be of a blob that nobody writes again.
	if err := removeStaleIn(filepath.Join(dir, ocispec.ImageBlobsDir, string(digest.SHA256)), "."); err != nil {
		return err
	}
	for _, img := range images {
		for _, d := range img.Blobs() {
			if err := writeLayoutBlob(ctx, img.Built, d, filepath.Join(dir, blobPath(d.Digest)), made); err != nil {
				return err
			}
		}
	}
	if err := writeSmallFile(filepath.Join(dir, ocispec.ImageLayoutFile), files[ocispec.ImageLayoutFile]); err != nil {
		return err
	}
	return writeSmallFile(filepath.Join(dir, ocispec.ImageIndexFile), index)
}

func writeSmallFile(name string, data []byte) error {
	return WriteFile(name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func writeLayoutBlob(ctx context.Context, b *Built, d ocispec.Descriptor, file string, made *[]string) error {
	info, err := os.Stat(file)
	if err == nil && info.Size() == d.Size {
		return nil
	}
	if err == nil {
		// What is there is no such blob, so it is not for us to remove.
		made = new([]string)
	}
	if err := makeDirs(filepath.Dir(file), made); err != nil {
		return err
	}
	r, err := b.Open(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	err = WriteFile(file, func(w io.Writer) error {
		_, err := io.Copy(w, archive.ContextReader(ctx, r))
		return err
	})
	if err == nil {
		*made = append(*made, file)
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

// mergeLayout is the index.json of dir with the entries of added.
func mergeLayout(dir string, added ocispec.Index) ([]byte, error) {
	var old ocispec.Index
	data, err := image.ReadIndexFile(dir)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &old); err != nil {
			return nil, hinted(fmt.Errorf("its %s is damaged: %w", ocispec.ImageIndexFile, err), "remove the directory, or choose another")
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
