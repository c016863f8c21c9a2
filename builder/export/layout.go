package export

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
)

// annotationFullName is where containerd and docker look for a full name; the
// annotation of the OCI layout has the tag only.
const annotationFullName = "io.containerd.image.name"

// Named is an image with the full references that it shall have; it may have
// none.
type Named struct {
	*Built
	Names []string
}

// layoutIndex is the index.json of a layout with images, once for each name.
func layoutIndex(images []Named) ocispec.Index {
	index := ocispec.Index{Versioned: versioned, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range images {
		for _, name := range img.Names {
			index.Manifests = append(index.Manifests,
				img.layoutEntry(map[string]string{annotationFullName: name, ocispec.AnnotationRefName: tagOf(name)}))
		}
		if len(img.Names) == 0 {
			index.Manifests = append(index.Manifests, img.layoutEntry(nil))
		}
	}
	return index
}

// layoutEntry describes the image in the index.json of a layout.
func (b *Built) layoutEntry(extra map[string]string) ocispec.Descriptor {
	d := b.Desc
	d.Annotations = map[string]string{}
	if at := b.Created(); !at.IsZero() {
		d.Annotations[ocispec.AnnotationCreated] = at.UTC().Format(time.RFC3339)
	}
	maps.Copy(d.Annotations, b.Desc.Annotations)
	maps.Copy(d.Annotations, extra)
	return d
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

func dockerManifestJSON(images []Named) ([]byte, error) {
	var entries []manifest.DockerEntry
	for _, img := range images {
		if len(img.Manifests) != 1 {
			return nil, hint.Add(fmt.Errorf("a docker archive holds images of one platform, but %s has %d", img.Digest(), len(img.Manifests)),
				"choose one, or use the format oci")
		}
		m := img.Manifests[0]
		e := manifest.DockerEntry{Config: blobPath(m.Config.Digest), Layers: []string{}}
		for _, l := range m.Layers {
			e.Layers = append(e.Layers, blobPath(l.Descriptor.Digest))
		}
		for _, name := range img.Names {
			e.RepoTags = append(e.RepoTags, familiar(name))
		}
		entries = append(entries, e)
	}
	return json.Marshal(entries)
}

// layoutFiles are the small files of a layout, by name.
func layoutFiles(images []Named, t Type) (map[string][]byte, error) {
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	index, err := json.Marshal(layoutIndex(images))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{ocispec.ImageLayoutFile: version, ocispec.ImageIndexFile: index}
	if t == Docker {
		if files["manifest.json"], err = dockerManifestJSON(images); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// content is a blob and the image that can open it.
type content struct {
	image *Built
	desc  ocispec.Descriptor
}

// WriteArchive writes images as a tar: an OCI layout, with what docker load
// needs when t is Docker. The bytes depend on images and names alone.
func WriteArchive(ctx context.Context, w io.Writer, images []Named, t Type) error {
	files, err := layoutFiles(images, t)
	if err != nil {
		return err
	}
	blobs := map[string]content{}
	paths := map[string]bool{ocispec.ImageBlobsDir + "/": true}
	for _, img := range images {
		for _, d := range img.Blobs() {
			p := blobPath(d.Digest)
			blobs[p] = content{img.Built, d}
			paths[p], paths[path.Dir(p)+"/"] = true, true
		}
	}
	for name := range files {
		paths[name] = true
	}
	tw := tar.NewWriter(w)
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if err := addToArchive(ctx, tw, p, files[p], blobs[p]); err != nil {
			return fmt.Errorf("writing the archive: %w", err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

func addToArchive(ctx context.Context, tw *tar.Writer, name string, data []byte, blob content) error {
	if strings.HasSuffix(name, "/") {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
	}
	if blob.image == nil {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := tw.Write(data)
		return err
	}
	r, err := blob.image.Open(ctx, blob.desc)
	if err != nil {
		return err
	}
	defer r.Close()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: blob.desc.Size}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, archive.ContextReader(ctx, r))
	return err
}
