package export

import (
	"archive/tar"
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
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationFullName is where containerd and docker look for a full name; the
// annotation of the OCI layout has the tag only.
const annotationFullName = "io.containerd.image.name"

// layoutIndex is the index.json of a layout with one image, once for each name.
func layoutIndex(b *Built, names []string) ocispec.Index {
	index := ocispec.Index{Versioned: versioned, MediaType: ocispec.MediaTypeImageIndex}
	entry := func(extra map[string]string) {
		d := b.Desc
		d.Annotations = map[string]string{}
		for _, m := range []map[string]string{b.Desc.Annotations, extra} {
			for k, v := range m {
				d.Annotations[k] = v
			}
		}
		index.Manifests = append(index.Manifests, d)
	}
	for _, name := range names {
		entry(map[string]string{annotationFullName: name, ocispec.AnnotationRefName: tagOf(name)})
	}
	if len(names) == 0 {
		entry(nil)
	}
	return index
}

// tagOf is the tag of a full reference, or the whole of it.
func tagOf(name string) string {
	if ref, err := reference.ParseNormalizedNamed(name); err == nil {
		if tagged, ok := ref.(reference.Tagged); ok {
			return tagged.Tag()
		}
	}
	return name
}

// repository is a full reference without tag and digest.
func repository(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return ref.Name()
}

// familiar is a full reference as people write it: app:1 for
// docker.io/library/app:1.
func familiar(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(ref)
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// dockerEntry is one image of docker's manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func dockerManifestJSON(b *Built, names []string) ([]byte, error) {
	if len(b.Manifests) != 1 {
		return nil, hinted(fmt.Errorf("a docker archive holds the image of one platform, not of %d", len(b.Manifests)),
			"choose one, or use the format oci")
	}
	m := b.Manifests[0]
	e := dockerEntry{Config: blobPath(m.Config.Digest), Layers: []string{}}
	for _, l := range m.Layers {
		e.Layers = append(e.Layers, blobPath(l.Descriptor.Digest))
	}
	for _, name := range names {
		e.RepoTags = append(e.RepoTags, familiar(name))
	}
	return json.Marshal([]dockerEntry{e})
}

// layoutFiles are the small files of a layout, by name.
func layoutFiles(b *Built, names []string, t Type) (map[string][]byte, error) {
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	index, err := json.Marshal(layoutIndex(b, names))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{ocispec.ImageLayoutFile: version, ocispec.ImageIndexFile: index}
	if t == Docker {
		if files["manifest.json"], err = dockerManifestJSON(b, names); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// WriteArchive writes the image as a tar: an OCI layout, with what docker load
// needs when t is Docker. The bytes depend on image and names alone.
func WriteArchive(ctx context.Context, w io.Writer, b *Built, names []string, t Type) error {
	files, err := layoutFiles(b, names, t)
	if err != nil {
		return err
	}
	blobs := map[string]ocispec.Descriptor{}
	paths := []string{ocispec.ImageBlobsDir + "/"}
	for _, d := range b.Blobs() {
		p := blobPath(d.Digest)
		blobs[p] = d
		if dir := path.Dir(p) + "/"; !slices.Contains(paths, dir) {
			paths = append(paths, dir)
		}
		paths = append(paths, p)
	}
	for name := range files {
		paths = append(paths, name)
	}
	slices.Sort(paths)
	tw := tar.NewWriter(w)
	for _, p := range paths {
		if err := addToArchive(ctx, tw, b, p, files[p], blobs[p]); err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

func addToArchive(ctx context.Context, tw *tar.Writer, b *Built, name string, data []byte, blob ocispec.Descriptor) error {
	if strings.HasSuffix(name, "/") {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: int64(len(data))}
	if blob.Digest == "" {
		h.Mode = 0o644
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := tw.Write(data)
		return err
	}
	r, err := b.Open(ctx, blob)
	if err != nil {
		return err
	}
	defer r.Close()
	h.Size = blob.Size
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, contextReader{ctx, r})
	return err
}

// WriteLayout writes the image into the OCI layout at dir, which is made when it
// is not there. Images that the layout has stay, except those whose names the
// new one takes. index.json comes last and in one rename.
func WriteLayout(ctx context.Context, b *Built, names []string, dir string) error {
	if err := writeLayout(ctx, b, names, dir); err != nil {
		return fmt.Errorf("writing the layout %s: %w", dir, err)
	}
	return nil
}

func writeLayout(ctx context.Context, b *Built, names []string, dir string) error {
	files, err := layoutFiles(b, names, OCI)
	if err != nil {
		return err
	}
	index, err := mergeLayout(dir, layoutIndex(b, names))
	if err != nil {
		return err
	}
	for _, d := range b.Blobs() {
		if err := writeLayoutBlob(ctx, b, d, filepath.Join(dir, blobPath(d.Digest))); err != nil {
			return err
		}
	}
	for name, data := range map[string][]byte{ocispec.ImageLayoutFile: files[ocispec.ImageLayoutFile], ocispec.ImageIndexFile: index} {
		err := writeFile(filepath.Join(dir, name), func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(data))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func writeLayoutBlob(ctx context.Context, b *Built, d ocispec.Descriptor, file string) error {
	if info, err := os.Stat(file); err == nil && info.Size() == d.Size {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	r, err := b.Open(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	return writeFile(file, func(w io.Writer) error {
		_, err := io.Copy(w, contextReader{ctx, r})
		return err
	})
}

// mergeLayout is the index.json of dir with the entries of added.
func mergeLayout(dir string, added ocispec.Index) ([]byte, error) {
	var old ocispec.Index
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
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

// contextReader stops a copy when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
