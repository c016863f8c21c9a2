// Package load takes images from archives and layouts on disk into the store:
// those of docker save and podman save, OCI archives and OCI layout
// directories.
//
// It trusts nothing in an archive: it verifies every blob against its digest and
// every layer against its diff ID or its manifest, and makes no path on disk of a
// name in it. It does not tag images, and does not download what an archive leaves
// out.
package load

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// Image is an image that is now in the store.
type Image struct {
	Desc ocispec.Descriptor
	// Names are full references; there may be none.
	Names []string
}

// The files that say what is in an archive.
const (
	dockerManifestName = "manifest.json"
	maxSmallFiles      = 64 << 20 // bytes, all together
	maxEntries         = 100_000
)

// Loaded is what came into the store.
type Loaded struct {
	Images []Image
	// Referrers are about one of the images, a part of it, or each other; all are
	// whole.
	Referrers []manifest.Referrer
}

// Error says that an archive or directory does not hold images.
type Error struct{ Msg string }

func (e *Error) Error() string { return e.Msg }

// HintText says what load reads.
func (e *Error) HintText() string {
	return "load reads what docker save, podman save, sinter save and -o type=oci or type=docker write"
}

// Archive loads the images of an archive, plain or compressed.
func Archive(ctx context.Context, s *store.Store, r io.Reader) (*Loaded, error) {
	plain, _, err := archive.Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	defer plain.Close()
	dir, err := s.TempDir("load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c := &contents{
		store: s, dir: dir, small: map[string][]byte{}, spooled: map[string]string{}, links: map[string]string{},
		blobs: map[digest.Digest]int64{}, room: maxSmallFiles,
	}
	if err := c.read(ctx, plain); err != nil {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	loaded, err := c.images(ctx)
	if err != nil {
		return nil, err
	}
	return loaded, loaded.complete(ctx, s)
}

// contents is what an archive holds. Blobs go straight into the store.
type contents struct {
	store *store.Store
	dir   string
	// small are the files of the top folder by name; spooled are layers of docker's
	// older format, by name, as files in dir; links are other names.
	small   map[string][]byte
	spooled map[string]string
	links   map[string]string
	// blobs are those of the archive with their sizes.
	blobs map[digest.Digest]int64
	room  int64 // left for small files
}

func (c *contents) read(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(archive.ContextReader(ctx, r)) // also for what it skips
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			if n == 0 {
				return &Error{"the archive is empty"}
			}
			return nil
		}
		if n == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)) {
			return &Error{"it is not a tar archive"}
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return &Error{"it ends too early"}
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n > maxEntries {
			return &Error{fmt.Sprintf("it has more than %d files: it is not an image archive", maxEntries)}
		}
		err = c.entry(ctx, h, tr)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return &Error{fmt.Sprintf("it ends too early, in %s", h.Name)}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func (c *contents) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := path.Clean("/" + h.Name)[1:]
	switch h.Typeflag {
	case tar.TypeSymlink:
		// Docker once saved a layer that two images share as a link.
		c.links[name] = path.Join("/", path.Dir(name), h.Linkname)[1:]
		return nil
	case tar.TypeLink:
		c.links[name] = path.Clean("/" + h.Linkname)[1:]
		return nil
	case tar.TypeReg:
	default:
		return nil
	}
	if d, ok := blobDigest(name); ok {
		c.blobs[d] = h.Size
		return c.store.Blobs.Put(ctx, ocispec.Descriptor{Digest: d, Size: h.Size}, r)
	}
	switch {
	case strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.gz"):
		return c.spool(name, r)
	case strings.Contains(name, "/"):
		return nil
	}
	// A config has the name that its archive's manifest.json gives it.
	if h.Size > manifest.MaxBytes || h.Size > c.room {
		return &Error{fmt.Sprintf("%d bytes are too many", h.Size)}
	}
	c.room -= h.Size
	data, err := io.ReadAll(r)
	c.small[name] = data
	return err
}

// blobDigest is the digest that a blob's name in a layout says.
func blobDigest(name string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/")
	algorithm, hex, _ := strings.Cut(rest, "/")
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
	return d, ok && d.Validate() == nil
}

func (c *contents) spool(name string, r io.Reader) error {
	f, err := os.CreateTemp(c.dir, "layer-")
	if err != nil {
		return err
	}
	c.spooled[name] = f.Name()
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func (c *contents) images(ctx context.Context) (*Loaded, error) {
	if data, ok := c.small[ocispec.ImageIndexFile]; ok {
		return readIndex(data, func(d ocispec.Descriptor) ([]byte, error) { return stored.ReadBlob(ctx, c.store, d) })
	}
	if data, ok := c.small[dockerManifestName]; ok {
		images, err := c.dockerImages(ctx, data)
		return &Loaded{Images: images}, err
	}
	return nil, &Error{"it has neither index.json nor manifest.json: it is not an image archive"}
}

// readIndex reads the index.json of a layout, and with read the manifests that it names.
func readIndex(data []byte, read func(ocispec.Descriptor) ([]byte, error)) (*Loaded, error) {
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("reading index.json: %w", err)
	}
	for _, d := range index.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("reading index.json: digest %q: %w", d.Digest, err)
		}
	}
	loaded := &Loaded{}
	index.Manifests, loaded.Referrers = image.SplitLayout(index.Manifests, read)
	for _, d := range index.Manifests {
		name := layoutName(d.Annotations)
		d.Annotations, d.Platform = nil, nil
		loaded.Images = addImage(loaded.Images, d, name)
	}
	if len(loaded.Images) == 0 {
		return nil, &Error{"its index.json names no image"}
	}
	return loaded, nil
}

// layoutName is the full reference of an entry of index.json, or "". A bare tag
// says nothing without a repository.
func layoutName(annotations map[string]string) string {
	name := annotations["io.containerd.image.name"]
	if name == "" {
		name = annotations[ocispec.AnnotationRefName]
		if !strings.ContainsAny(name, "/:") {
			return ""
		}
	}
	return fullName(name)
}

func fullName(text string) string {
	ref, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return ""
	}
	return reference.TagNameOnly(ref).String()
}

func addImage(images []Image, d ocispec.Descriptor, name string) []Image {
	at := -1
	for i := range images {
		if images[i].Desc.Digest == d.Digest {
			at = i
		}
	}
	if at < 0 {
		at = len(images)
		images = append(images, Image{Desc: d})
	}
	if name != "" {
		images[at].Names = append(images[at].Names, name)
	}
	return images
}

// complete fails when a blob of an image, or of what refers to it, did not come with it.
func (l *Loaded) complete(ctx context.Context, s *store.Store) error {
	for _, r := range l.Referrers {
		if err := stored.CheckReferrer(ctx, s, r); err != nil {
			return err
		}
	}
	for _, img := range l.Images {
		b, err := stored.Open(ctx, s, img.Desc)
		if err != nil {
			return err
		}
		if len(b.Manifests) == 0 {
			return &Error{fmt.Sprintf("image %s: none of its manifests is there", img.Desc.Digest)}
		}
		for _, d := range b.Blobs() {
			if len(b.Origins(d.Digest)) == 0 && !s.Blobs.Has(d) {
				return fmt.Errorf("image %s: its blob %s is not in the archive", img.Desc.Digest, d.Digest)
			}
		}
	}
	return nil
}

// Layout loads the images of an OCI layout directory.
func Layout(ctx context.Context, s *store.Store, dir string) (*Loaded, error) {
	data, err := image.ReadIndexFile(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{fmt.Sprintf("directory %s has no index.json: it is not an OCI layout", dir)}
	}
	if err != nil {
		return nil, err
	}
	loaded, err := readIndex(data, func(d ocispec.Descriptor) ([]byte, error) {
		f, err := image.OpenBlob(dir, d.Digest)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return manifest.Read(f, d)
	})
	if err != nil {
		return nil, err
	}
	var roots []ocispec.Descriptor
	for _, img := range loaded.Images {
		roots = append(roots, img.Desc)
	}
	for _, r := range loaded.Referrers {
		roots = append(roots, r.Desc)
	}
	for _, d := range roots {
		if err := copyImage(ctx, s, dir, d); err != nil {
			return nil, fmt.Errorf("layout %s: %w", dir, err)
		}
	}
	return loaded, loaded.complete(ctx, s)
}

// copyImage copies a manifest or index with everything that it names. A layout need
// not have all of an index's manifests.
func copyImage(ctx context.Context, s *store.Store, dir string, root ocispec.Descriptor) error {
	if err := copyBlob(ctx, s, dir, root); err != nil {
		return err
	}
	return manifest.Walker{
		Read: func(d ocispec.Descriptor) ([]byte, error) { return stored.ReadBlob(ctx, s, d) },
		Want: func(d ocispec.Descriptor) (bool, error) {
			err := copyBlob(ctx, s, dir, d)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			return err == nil, err
		},
		Visit: func(d *manifest.Document) error {
			for _, b := range d.Blobs() {
				if err := copyBlob(ctx, s, dir, b); err != nil {
					return err
				}
			}
			return nil
		},
	}.Walk(root)
}

func copyBlob(ctx context.Context, s *store.Store, dir string, desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	f, err := image.OpenBlob(dir, desc.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.Blobs.Put(ctx, desc, f)
}
