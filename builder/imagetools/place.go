package imagetools

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/source/image"
)

// Place is where an image is: in a registry, or in an OCI layout on disk.
type Place struct {
	// Ref says where in a registry. Its digest, if there is one, decides.
	Ref registry.Ref
	// Layout is the directory of an OCI layout; Ref is empty then.
	Layout string
	// LayoutRef is the image in it: :TAG, @DIGEST, or "" for the only one, or
	// else the one tagged "latest".
	LayoutRef string
}

// IsZero reports whether nothing is said.
func (p Place) IsZero() bool { return p.Ref.Path == "" && p.Layout == "" }

func (p Place) String() string {
	if p.Layout != "" {
		return "oci-layout://" + p.Layout + p.LayoutRef
	}
	return p.Ref.String()
}

// At is another image, or a part of this one, at the same place.
func (p Place) At(d digest.Digest) Place {
	if p.Layout != "" {
		p.LayoutRef = "@" + d.String()
		return p
	}
	p.Ref.Tag, p.Ref.Digest = "", d
	return p
}

// isAt reports whether both are in one repository or one layout.
func (p Place) isAt(other Place) bool {
	if p.Layout != "" || other.Layout != "" {
		return p.Layout == other.Layout
	}
	return p.Ref.Repository() == other.Ref.Repository()
}

// resolve reads the manifest or index.
func (p Place) resolve(ctx context.Context, client *registry.Client) (ocispec.Descriptor, []byte, error) {
	if p.Layout == "" {
		return client.Resolve(ctx, p.Ref)
	}
	desc, err := image.Layout{Dir: p.Layout}.Find(p.LayoutRef)
	if err != nil {
		return desc, nil, err
	}
	data, err := image.Layout{Dir: p.Layout}.Read(desc)
	return desc, data, err
}

// open opens a blob.
func (p Place) open(ctx context.Context, client *registry.Client, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if p.Layout != "" {
		return image.Layout{Dir: p.Layout}.Open(desc)
	}
	return client.Blob(ctx, p.Ref.Repository(), desc)
}

// read reads a config or another small blob, verified.
func (p Place) read(ctx context.Context, client *registry.Client, desc ocispec.Descriptor) ([]byte, error) {
	if p.Layout != "" {
		return image.Layout{Dir: p.Layout}.Read(desc)
	}
	data, err := client.ReadBlob(ctx, p.Ref.Repository(), desc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return data, nil
}
