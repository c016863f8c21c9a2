package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/archive"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/parser"
)

// AddLayout names an OCI layout directory, so that oci-layout://STOREID can
// refer to it.
func (f *Finder) AddLayout(storeID, dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.layouts[storeID] = Layout{Dir: dir}
}

// Layout is a directory in the format of the OCI image layout.
type Layout struct{ Dir string }

// Digest returns the digest of an image in the layout. ref is :TAG, @DIGEST, or "" for
// the only image there is.
func (l Layout) Digest(ref string) (digest.Digest, error) {
	desc, err := l.find(ref)
	return desc.Digest, err
}

// Find describes an image in the layout. ref is :TAG, @DIGEST, or "" for the only image
// there is, or else the one tagged "latest".
func (l Layout) Find(ref string) (ocispec.Descriptor, error) {
	images, _, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, hint.Add(err, "give the directory of an OCI layout, which has an index.json")
	}
	if ref == "" && len(images) != 1 {
		ref = ":latest"
	}
	return l.find(ref)
}

// Referrers describes what refers to a manifest or index of the layout.
func (l Layout) Referrers(subject digest.Digest) ([]ocispec.Descriptor, error) {
	_, all, err := l.index()
	var list []ocispec.Descriptor
	for _, r := range all {
		if r.Subject == subject {
			list = append(list, r.Desc)
		}
	}
	return list, err
}

// Read reads a manifest or config of the layout, verified.
func (l Layout) Read(desc ocispec.Descriptor) ([]byte, error) {
	data, err := l.read(desc)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", l.Dir, err)
	}
	return data, nil
}

// Open opens a blob of the layout, and verifies it as it is read.
func (l Layout) Open(desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := l.open(desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", l.Dir, err)
	}
	return archive.Verified(f, desc), nil
}

// ResolveLayout is Resolve for an image in the OCI layout that AddLayout named.
// ref ends in :TAG or @DIGEST; a layout with only one image needs neither.
func (f *Finder) ResolveLayout(ctx context.Context, storeID, ref string, platform *ocispec.Platform) (Meta, error) {
	l, err := f.layout(storeID)
	if err != nil {
		return Meta{}, err
	}
	desc, m, err := l.load(ref, platform)
	if err != nil {
		return Meta{}, err
	}
	return Meta{Ref: ref, Digest: desc.Digest, Config: m.config}, ctx.Err()
}

// layoutChain copies the layers of an image in a layout into the store: unlike
// a registry, the layout may be gone when they are needed.
func (f *Finder) layoutChain(ctx context.Context, op parser.OCILayout, platform *ocispec.Platform) (layers.Chain, error) {
	l, err := f.layout(op.StoreID)
	if err != nil {
		return nil, err
	}
	_, m, err := l.load(op.Ref, platform)
	if err != nil {
		return nil, err
	}
	chain := m.chain(op.LayerLimit, nil)
	for i := range chain {
		if f.LookOnly {
			continue
		}
		if err := f.copyBlob(ctx, l, chain[i].Descriptor); err != nil {
			return nil, err
		}
		if chain[i], err = f.know(ctx, chain[i]); err != nil {
			return nil, err
		}
	}
	return chain, nil
}

func (f *Finder) copyBlob(ctx context.Context, l Layout, desc ocispec.Descriptor) error {
	blob, err := l.open(desc.Digest)
	if errors.Is(err, fs.ErrNotExist) && f.store.Blobs.Has(desc) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("OCI layout %s: %w", l.Dir, err)
	}
	defer blob.Close()
	if err := f.store.Blobs.Put(ctx, desc, blob); err != nil {
		return fmt.Errorf("OCI layout %s: %w", l.Dir, err)
	}
	return nil
}

func (f *Finder) layout(storeID string) (Layout, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, ok := f.layouts[storeID]
	if !ok {
		return l, fmt.Errorf("OCI layout %q not found", storeID)
	}
	return l, nil
}

// open opens a blob: a regular file that no symlink has outside of the layout.
func (l Layout) open(d digest.Digest) (*os.File, error) { return image.OpenBlob(l.Dir, d) }

// load finds an image in the layout.
func (l Layout) load(ref string, platform *ocispec.Platform) (ocispec.Descriptor, *imageManifest, error) {
	desc, err := l.find(ref)
	if err != nil {
		return desc, nil, err
	}
	m, err := load(desc, platform, l.read)
	if err != nil {
		return desc, nil, wrong("OCI layout "+l.Dir, err)
	}
	return desc, m, nil
}

// read reads a manifest or config.
func (l Layout) read(desc ocispec.Descriptor) ([]byte, error) {
	f, err := l.open(desc.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return manifest.Read(f, desc)
}

// find returns the descriptor that ref names: by digest, by tag, or as the only
// one.
func (l Layout) find(ref string) (ocispec.Descriptor, error) {
	name, d, hasDigest := strings.Cut(ref, "@")
	if hasDigest {
		desc := ocispec.Descriptor{Digest: digest.Digest(d)}
		if err := desc.Digest.Validate(); err != nil {
			return desc, fmt.Errorf("OCI layout %s: %q: %w", l.Dir, ref, err)
		}
		return l.typed(desc)
	}
	images, _, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_, tag, hasTag := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	var tags []string
	for _, desc := range images {
		has := desc.Annotations[ocispec.AnnotationRefName]
		if hasTag && (has == tag || strings.HasSuffix(has, ":"+tag)) || !hasTag && len(images) == 1 {
			return l.typed(desc)
		}
		tags = append(tags, has)
	}
	// A layout that a tool made of one image often has no tag at all.
	if tag == "latest" && len(images) == 1 && tags[0] == "" {
		return l.typed(images[0])
	}
	tags = slices.DeleteFunc(tags, func(t string) bool { return t == "" })
	e := &registry.Error{Msg: fmt.Sprintf("OCI layout %s has no image %q", l.Dir, tag), Err: fs.ErrNotExist}
	if len(tags) > 0 {
		e.Hint = "it has " + strings.Join(tags, ", ")
	} else {
		e.Hint = "its images have no tags: name one by @DIGEST, as in its index.json"
	}
	return ocispec.Descriptor{}, e
}

// typed adds size and media type, which the blob itself knows best.
func (l Layout) typed(desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	if err := desc.Digest.Validate(); err != nil {
		return desc, fmt.Errorf("OCI layout %s: %q: %w", l.Dir, desc.Digest, err)
	}
	data, err := l.read(ocispec.Descriptor{Digest: desc.Digest})
	if err == nil {
		desc.Size = int64(len(data))
		desc.MediaType, err = kindOf(data, desc.MediaType)
	}
	if err != nil {
		return desc, fmt.Errorf("OCI layout %s: %w", l.Dir, err)
	}
	return desc, nil
}

// index reads the index.json: the images, and what refers to others.
func (l Layout) index() ([]ocispec.Descriptor, []manifest.Referrer, error) {
	data, err := image.ReadIndexFile(l.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("OCI layout: %w", err)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(data, &idx); err != nil {
		return nil, nil, fmt.Errorf("OCI layout %s: %s: %w", l.Dir, ocispec.ImageIndexFile, err)
	}
	images, referrers := image.SplitLayout(idx.Manifests, l.read)
	return images, referrers, nil
}
