package source

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
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// AddLayout names an OCI layout directory, so that oci-layout://STOREID can
// refer to it.
func (s *Images) AddLayout(storeID, dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.layouts[storeID] = dir
}

// LayoutDigest returns the digest of an image in the OCI layout in dir. ref is
// :TAG, @DIGEST, or "" for the only image there is.
func LayoutDigest(dir, ref string) (digest.Digest, error) {
	desc, err := layout{dir: dir}.find(ref)
	return desc.Digest, err
}

// FindInLayout describes an image in the OCI layout in dir. ref is :TAG, @DIGEST, or ""
// for the only image there is, or else the one tagged "latest".
func FindInLayout(dir, ref string) (ocispec.Descriptor, error) {
	l := layout{dir: dir}
	idx, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, &registry.Error{
			Msg: err.Error(), Err: err, Hint: "give the directory of an OCI layout, which has an index.json",
		}
	}
	if ref == "" && len(idx.Manifests) != 1 {
		ref = ":latest"
	}
	return l.find(ref)
}

// ReadInLayout reads a manifest or config of the OCI layout in dir, verified.
func ReadInLayout(dir string, desc ocispec.Descriptor) ([]byte, error) {
	data, err := layout{dir: dir}.read(desc)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	return data, nil
}

// OpenInLayout opens a blob of the OCI layout in dir, and verifies it as it is read.
func OpenInLayout(dir string, desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := layout{dir: dir}.open(desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	return store.Verified(f, desc), nil
}

// ResolveLayout is Resolve for an image in the OCI layout that AddLayout named.
// ref ends in :TAG or @DIGEST; a layout with only one image needs neither.
func (s *Images) ResolveLayout(ctx context.Context, storeID, ref string, platform *ocispec.Platform) (Meta, error) {
	l, err := s.layout(storeID)
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
func (s *Images) layoutChain(ctx context.Context, op parser.OCILayout, platform *ocispec.Platform) (layers.Chain, error) {
	l, err := s.layout(op.StoreID)
	if err != nil {
		return nil, err
	}
	_, m, err := l.load(op.Ref, platform)
	if err != nil {
		return nil, err
	}
	chain := m.chain(op.LayerLimit, nil)
	for i := range chain {
		if s.LookOnly {
			continue
		}
		if err := s.copyBlob(ctx, l, chain[i].Descriptor); err != nil {
			return nil, err
		}
		if chain[i], err = s.know(ctx, chain[i]); err != nil {
			return nil, err
		}
	}
	return chain, nil
}

func (s *Images) copyBlob(ctx context.Context, l layout, desc ocispec.Descriptor) error {
	f, err := l.open(desc.Digest)
	if errors.Is(err, fs.ErrNotExist) && s.store.Has(desc) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("OCI layout %s: %w", l.dir, err)
	}
	defer f.Close()
	if err := s.store.PutBlob(ctx, desc, f); err != nil {
		return fmt.Errorf("OCI layout %s: %w", l.dir, err)
	}
	return nil
}

func (s *Images) layout(storeID string) (layout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, ok := s.layouts[storeID]
	if !ok {
		return layout{}, fmt.Errorf("there is no OCI layout called %q", storeID)
	}
	return layout{dir}, nil
}

// layout is a directory in the format of the OCI image layout.
type layout struct{ dir string }

// open opens a blob: a regular file that no symlink has outside of the layout.
func (l layout) open(d digest.Digest) (*os.File, error) { return image.OpenBlob(l.dir, d) }

// load finds an image in the layout.
func (l layout) load(ref string, platform *ocispec.Platform) (ocispec.Descriptor, *imageManifest, error) {
	desc, err := l.find(ref)
	if err != nil {
		return desc, nil, err
	}
	m, err := load(desc, platform, l.read)
	if err != nil {
		return desc, nil, wrong("OCI layout "+l.dir, err)
	}
	return desc, m, nil
}

// read reads a manifest or config.
func (l layout) read(desc ocispec.Descriptor) ([]byte, error) {
	f, err := l.open(desc.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return manifest.Read(f, desc)
}

// find returns the descriptor that ref names: by digest, by tag, or as the only
// one.
func (l layout) find(ref string) (ocispec.Descriptor, error) {
	name, d, hasDigest := strings.Cut(ref, "@")
	if hasDigest {
		desc := ocispec.Descriptor{Digest: digest.Digest(d)}
		if err := desc.Digest.Validate(); err != nil {
			return desc, fmt.Errorf("OCI layout %s: %q: %w", l.dir, ref, err)
		}
		return l.typed(desc)
	}
	idx, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_, tag, hasTag := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	var tags []string
	for _, desc := range idx.Manifests {
		has := desc.Annotations[ocispec.AnnotationRefName]
		if hasTag && (has == tag || strings.HasSuffix(has, ":"+tag)) || !hasTag && len(idx.Manifests) == 1 {
			return l.typed(desc)
		}
		tags = append(tags, has)
	}
	// A layout that a tool made of one image often has no tag at all.
	if tag == "latest" && len(idx.Manifests) == 1 && tags[0] == "" {
		return l.typed(idx.Manifests[0])
	}
	tags = slices.DeleteFunc(tags, func(t string) bool { return t == "" })
	e := &registry.Error{Msg: fmt.Sprintf("OCI layout %s has no image %q", l.dir, tag), Err: fs.ErrNotExist}
	if len(tags) > 0 {
		e.Hint = "it has " + strings.Join(tags, ", ")
	} else {
		e.Hint = "its images have no tags: name one by @DIGEST, as in its index.json"
	}
	return ocispec.Descriptor{}, e
}

// typed adds size and media type, which the blob itself knows best.
func (l layout) typed(desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	if err := desc.Digest.Validate(); err != nil {
		return desc, fmt.Errorf("OCI layout %s: %q: %w", l.dir, desc.Digest, err)
	}
	data, err := l.read(ocispec.Descriptor{Digest: desc.Digest})
	if err == nil {
		desc.Size = int64(len(data))
		desc.MediaType, err = kindOf(data, desc.MediaType)
	}
	if err != nil {
		return desc, fmt.Errorf("OCI layout %s: %w", l.dir, err)
	}
	return desc, nil
}

func (l layout) index() (*ocispec.Index, error) {
	data, err := image.ReadIndexFile(l.dir)
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	var idx ocispec.Index
	if err := json.Unmarshal(data, &idx); err != nil {
		return nil, fmt.Errorf("OCI layout %s: %s: %w", l.dir, ocispec.ImageIndexFile, err)
	}
	return &idx, nil
}
