package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers/archive"
)

// dockerImages loads the images of an archive that has only manifest.json, as
// docker before 25 and podman write them: layers are plain tars, which become
// blobs here.
func (c *contents) dockerImages(ctx context.Context, data []byte) ([]Image, error) {
	var entries []manifest.DockerEntry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("reading manifest.json: %w", err)
	}
	if len(entries) == 0 {
		return nil, &Error{"its manifest.json names no image"}
	}
	packed := map[string]ocispec.Descriptor{}
	var images []Image
	for _, e := range entries {
		desc, err := c.dockerImage(ctx, e, packed)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", e.Config, err)
		}
		images = addImage(images, desc, "")
		for _, tag := range e.RepoTags {
			images = addImage(images, desc, fullName(tag))
		}
	}
	return images, nil
}

func (c *contents) dockerImage(ctx context.Context, e manifest.DockerEntry, packed map[string]ocispec.Descriptor) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	config, err := c.dockerConfig(ctx, e.Config)
	if err != nil {
		return none, err
	}
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return none, fmt.Errorf("reading its config: %w", err)
	}
	if len(img.RootFS.DiffIDs) != len(e.Layers) {
		return none, fmt.Errorf("it has %d layers, but its config names %d", len(e.Layers), len(img.RootFS.DiffIDs))
	}
	doc := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
	}
	for i, name := range e.Layers {
		name = c.follow(path.Clean("/" + name)[1:])
		if _, ok := packed[name]; !ok {
			if packed[name], err = c.dockerLayer(ctx, name, img.RootFS.DiffIDs[i]); err != nil {
				return none, fmt.Errorf("layer %s: %w", name, err)
			}
		}
		doc.Layers = append(doc.Layers, packed[name])
	}
	if doc.Config, err = c.put(ctx, config, ocispec.MediaTypeImageConfig); err != nil {
		return none, err
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return none, err
	}
	return c.put(ctx, data, ocispec.MediaTypeImageManifest)
}

// follow returns the file that a name in the archive stands for.
func (c *contents) follow(name string) string {
	for range 8 {
		target, ok := c.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name
}

func (c *contents) put(ctx context.Context, data []byte, mediaType string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, c.store.Blobs.Put(ctx, desc, bytes.NewReader(data))
}

func (c *contents) dockerConfig(ctx context.Context, name string) ([]byte, error) {
	name = c.follow(path.Clean("/" + name)[1:])
	if data, ok := c.small[name]; ok {
		return data, nil
	}
	d, ok := blobDigest(name)
	if !ok {
		return nil, &Error{fmt.Sprintf("its config %q is not in the archive", name)}
	}
	r, err := c.openBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return manifest.Read(r, ocispec.Descriptor{Digest: d, Size: c.blobs[d]})
}

// openBlob opens a blob of the archive.
func (c *contents) openBlob(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	size, ok := c.blobs[d]
	if !ok {
		return nil, &Error{fmt.Sprintf("blob %s is not in the archive", d)}
	}
	return c.store.Blobs.Open(ctx, ocispec.Descriptor{Digest: d, Size: size})
}

// dockerLayer makes a blob of a layer: a plain tar is compressed, a compressed
// one is taken as it is. Either way its diff ID is verified.
func (c *contents) dockerLayer(ctx context.Context, name string, diffID digest.Digest) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	r, err := c.openLayer(ctx, name)
	if err != nil {
		return desc, err
	}
	defer r.Close()
	raw := &measured{r: archive.ContextReader(ctx, r), sum: digest.SHA256.Digester()}
	plain, kind, err := archive.Decompress(raw)
	if err != nil {
		return desc, err
	}
	defer plain.Close()
	switch kind {
	case archive.Uncompressed:
		return c.compress(ctx, plain, diffID)
	case archive.Gzip, archive.Zstd:
	default:
		return desc, &Error{fmt.Sprintf("it is compressed with %s, which an image cannot be", kind)}
	}
	got, err := digest.FromReader(archive.ContextReader(ctx, plain))
	if err != nil {
		return desc, err
	}
	if got != diffID {
		return desc, otherDiffID(got, diffID)
	}
	// What follows the compressed stream belongs to the blob as well.
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return desc, err
	}
	desc = ocispec.Descriptor{MediaType: archive.Compression{Type: kind}.MediaType(), Digest: raw.sum.Digest(), Size: raw.n}
	again, err := c.openLayer(ctx, name)
	if err != nil {
		return desc, err
	}
	return desc, errors.Join(c.store.Blobs.Put(ctx, desc, again), again.Close())
}

func otherDiffID(got, want digest.Digest) error {
	return fmt.Errorf("uncompressed it is %s, but the config says %s", got, want)
}

// compress makes a blob of a plain tar.
func (c *contents) compress(ctx context.Context, plain io.Reader, diffID digest.Digest) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	err := c.store.Blobs.Create(func(blob io.Writer) (digest.Digest, error) {
		p, err := archive.Recompress(ctx, plain, blob, archive.Compression{})
		if err == nil && p.DiffID != diffID {
			err = otherDiffID(p.DiffID, diffID)
		}
		desc = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: p.Digest, Size: p.Size}
		return p.Digest, err
	})
	return desc, err
}

func (c *contents) openLayer(ctx context.Context, name string) (io.ReadCloser, error) {
	if file, ok := c.spooled[name]; ok {
		return os.Open(file)
	}
	if d, ok := blobDigest(name); ok {
		return c.openBlob(ctx, d)
	}
	return nil, &Error{"it is not in the archive"}
}

// measured counts and hashes what is read through it.
type measured struct {
	r   io.Reader
	n   int64
	sum digest.Digester
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	// Writing to a hash cannot fail.
	_, _ = m.sum.Hash().Write(p[:n])
	return n, err
}
