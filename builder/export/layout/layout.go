// Package layout writes images as OCI layouts: archives, also those of docker save,
// directories, and what a Docker engine loads.
package layout

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
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/image"
)

// annotationFullName is where containerd and docker look for a full name; the
// annotation of the OCI layout has the tag only.
const annotationFullName = "io.containerd.image.name"

// Named is an image with the full references that it shall have; it may have
// none.
type Named struct {
	*stored.Image
	Names []string
}

// indexOf is the index.json of a layout with images, once for each name.
func indexOf(list []Named) ocispec.Index {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range list {
		for _, name := range img.Names {
			index.Manifests = append(index.Manifests,
				Describe(img.Image, map[string]string{annotationFullName: name, ocispec.AnnotationRefName: tagOf(name)}))
		}
		if len(img.Names) == 0 {
			index.Manifests = append(index.Manifests, Describe(img.Image, nil))
		}
	}
	return index
}

// Describe describes the image in the index.json of a layout.
func Describe(b *stored.Image, extra map[string]string) ocispec.Descriptor {
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

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func dockerManifestJSON(list []Named) ([]byte, error) {
	var entries []manifest.DockerEntry
	for _, img := range list {
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
			e.RepoTags = append(e.RepoTags, image.Familiar(name))
		}
		entries = append(entries, e)
	}
	return json.Marshal(entries)
}

// smallFiles are the small files of a layout, by name.
func smallFiles(list []Named, docker bool) (map[string][]byte, error) {
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	index, err := json.Marshal(indexOf(list))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{ocispec.ImageLayoutFile: version, ocispec.ImageIndexFile: index}
	if docker {
		if files["manifest.json"], err = dockerManifestJSON(list); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// content is a blob and the image that can open it.
type content struct {
	image *stored.Image
	desc  ocispec.Descriptor
}

// WriteArchive writes images as a tar: an OCI layout, with what docker load
// needs with docker. The bytes depend on images and names alone.
func WriteArchive(ctx context.Context, w io.Writer, list []Named, docker bool) error {
	files, err := smallFiles(list, docker)
	if err != nil {
		return err
	}
	blobs := map[string]content{}
	paths := map[string]bool{ocispec.ImageBlobsDir + "/": true}
	for _, img := range list {
		for _, d := range img.Blobs() {
			p := blobPath(d.Digest)
			blobs[p] = content{img.Image, d}
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
