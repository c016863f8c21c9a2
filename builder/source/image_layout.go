package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/layers"
)

// layoutOrigin marks a layer's origin that is an OCI layout's directory.
const layoutOrigin = "oci-layout://"

// AddLayout makes the OCI layout in dir known under an ID.
func (i *Images) AddLayout(storeID, dir string) {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	i.layouts[storeID] = dir
}

func (i *Images) lookUpLayout(ctx context.Context, storeID, ref string, p ocispec.Platform) (*lookup, error) {
	dir, ok := i.layouts[storeID]
	if !ok {
		return nil, fmt.Errorf("there is no OCI layout called %q", storeID)
	}
	return i.once(dir+" "+ref+" "+platforms.FormatAll(p), func() (Meta, layers.Chain, error) {
		desc, err := LayoutManifest(dir, ref)
		if err != nil {
			return Meta{}, nil, err
		}
		b := bundle{origin: layoutOrigin + dir, ref: ref, read: func(d ocispec.Descriptor) ([]byte, error) {
			return readLayoutBlob(dir, d)
		}}
		return i.open(ctx, b, desc, p)
	})
}

// LayoutManifest finds an image in the OCI layout in dir: by digest when ref has
// one, else by tag; without either, the only image there is.
func LayoutManifest(dir, ref string) (ocispec.Descriptor, error) {
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("OCI layout: %w", err)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(data, &idx); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("OCI layout %s: %s: %w", dir, ocispec.ImageIndexFile, err)
	}
	if _, want, ok := strings.Cut(ref, "@"); ok {
		return layoutByDigest(dir, idx, digest.Digest(want))
	}
	tag := ref[strings.LastIndex(ref, ":")+1:]
	var tags []string
	for _, d := range idx.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		if name != "" {
			tags = append(tags, name)
		}
		if name == tag || name == ref || tag != "" && strings.HasSuffix(name, ":"+tag) {
			return d, nil
		}
	}
	if len(idx.Manifests) == 1 && (tag == "" || tag == "latest") {
		return idx.Manifests[0], nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("the OCI layout %s has no image %q (it has: %s)", dir, tag, strings.Join(tags, ", "))
}

func layoutByDigest(dir string, idx ocispec.Index, want digest.Digest) (ocispec.Descriptor, error) {
	if err := want.Validate(); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("digest %q: %w", want, err)
	}
	for _, d := range idx.Manifests {
		if d.Digest == want {
			return d, nil
		}
	}
	// It may lie deeper, in another index.
	info, err := os.Stat(layoutBlob(dir, want))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("the OCI layout %s has no image %s", dir, want)
	}
	d := ocispec.Descriptor{Digest: want, Size: info.Size()}
	data, err := readLayoutBlob(dir, d)
	if err != nil {
		return d, err
	}
	d.MediaType = mediaTypeOf(data, "")
	return d, nil
}

func layoutBlob(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}

func openLayoutBlob(dir string, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	f, err := os.Open(layoutBlob(dir, d.Digest))
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	return f, nil
}

func readLayoutBlob(dir string, d ocispec.Descriptor) ([]byte, error) {
	f, err := openLayoutBlob(dir, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = errors.New("it is too large for a manifest or config")
	}
	if err == nil && digest.FromBytes(data) != d.Digest {
		err = errors.New("its bytes are not what the digest says")
	}
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: blob %s: %w", dir, d.Digest, err)
	}
	return data, nil
}

// layerTimes returns the history times of those steps that made a layer.
func layerTimes(c *config) []*time.Time {
	var times []*time.Time
	for _, h := range c.History {
		if !h.EmptyLayer {
			times = append(times, h.Created)
		}
	}
	return times
}
