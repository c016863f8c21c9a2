// Package image finds the images that builds start from.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/source"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// Finder finds the images that builds start from: in the store, in registries,
// and in OCI layouts on disk. What it has found in a registry it remembers in
// the store, so the next build needs no network.
type Finder struct {
	store  *store.Store
	images *image.Images
	client *registry.Client

	// Pull says when registries are asked about tags that the store knows.
	Pull registry.Policy
	// Warn gets a line when a registry does not answer such a question.
	Warn func(text string)
	// LookOnly says that images are only looked up: the store is not told of their
	// layers, and layers of layouts are not copied there.
	LookOnly bool
	// patience is how long the answer is waited for.
	patience time.Duration

	mu      sync.Mutex
	layouts map[string]Layout // by store ID
	asked   source.Answers[meaning]
	// from holds repository@digest of images that came from a registry when they
	// were found: their names may be removed while they are used.
	from sync.Map
}

// Meta is what is known of an image without its layers.
type Meta struct {
	// Ref is the full reference that was asked for.
	Ref string
	// Digest is that of the manifest or index that the reference names.
	Digest digest.Digest
	// Config is the image config (JSON) for the platform asked for.
	Config []byte
}

// NewFinder returns a finder of images.
func NewFinder(s *store.Store, images *image.Images, client *registry.Client) *Finder {
	return &Finder{
		store: s, images: images, client: client,
		Pull: registry.DefaultPolicy, Warn: func(string) {}, patience: patience,
		layouts: map[string]Layout{},
	}
}

// Resolve finds ref for a platform (nil means this machine's). An image that
// the store knows needs no network, unless pull or the policy asks for the
// registry's word on what the tag stands for now.
func (f *Finder) Resolve(ctx context.Context, ref string, platform *ocispec.Platform, pull bool) (Meta, error) {
	named, err := registry.ParseRef(ref)
	if err != nil {
		return Meta{}, err
	}
	desc, m, err := f.open(ctx, named, platform, pull)
	if err != nil {
		return Meta{}, err
	}
	return Meta{Ref: named.String(), Digest: desc.Digest, Config: m.config}, nil
}

// Chain returns the layers of a parser.Image or parser.OCILayout for a
// platform, and makes them known to the store. Layers of a registry are not
// fetched before they are needed.
func (f *Finder) Chain(ctx context.Context, op parser.Op, platform ocispec.Platform) (layers.Chain, error) {
	p := &platform
	if platform.OS == "" {
		p = nil
	}
	switch op := op.(type) {
	case parser.Image:
		return f.imageChain(ctx, op, p)
	case parser.OCILayout:
		return f.layoutChain(ctx, op, p)
	}
	return nil, fmt.Errorf("%T is not an image", op)
}

func (f *Finder) imageChain(ctx context.Context, op parser.Image, platform *ocispec.Platform) (layers.Chain, error) {
	named, err := registry.ParseRef(op.Ref)
	if err != nil {
		return nil, err
	}
	desc, m, err := f.open(ctx, named, platform, false)
	if err != nil {
		return nil, err
	}
	if op.Checksum != "" && op.Checksum != desc.Digest {
		return nil, hint.Add(fmt.Errorf("image %s has the digest %s, not the checksum %s that was asked for", named, desc.Digest, op.Checksum),
			"the image is not the one that the source policy means: look what the registry has, then correct the policy")
	}
	var origins []string
	if f.pulled(named, desc.Digest) {
		origins = []string{named.Repository()}
	}
	chain := m.chain(op.LayerLimit, origins)
	for i, l := range chain {
		if chain[i], err = f.know(ctx, l); err != nil {
			return nil, fmt.Errorf("image %s: %w", named, err)
		}
		if !f.LookOnly && !f.store.Available(chain[i]) {
			// What is built on it could be neither saved nor pushed.
			return nil, hint.Add(fmt.Errorf("image %s: its blob %s is missing, and where it came from is not known", named, l.Descriptor.Digest),
				"build or pull the image again; sinter verify says what else is missing")
		}
	}
	return chain, nil
}

// Named returns the name of an image op's image, with the digest that it has now:
// REF@DIGEST.
func (f *Finder) Named(ctx context.Context, op parser.Op, platform ocispec.Platform) (string, error) {
	switch op := op.(type) {
	case parser.Image:
		named, err := registry.ParseRef(op.Ref)
		if err != nil || named.Digest != "" {
			return op.Ref, err
		}
		desc, _, err := f.open(ctx, named, &platform, false)
		return op.Ref + "@" + desc.Digest.String(), err
	case parser.OCILayout:
		return op.Ref, nil
	}
	return "", fmt.Errorf("%T is not an image", op)
}

// know tells the store of a layer, and adds the origins that the store knows.
func (f *Finder) know(ctx context.Context, l layers.Layer) (layers.Layer, error) {
	if f.LookOnly {
		return l, nil
	}
	if err := f.store.AddRemote(ctx, l); err != nil {
		return l, err
	}
	return f.store.Get(l.ID)
}

// pulled reports whether the image came from the repository of ref.
func (f *Finder) pulled(ref registry.Ref, d digest.Digest) bool {
	if _, found := f.from.Load(ref.Repository() + "@" + d.String()); found {
		return true
	}
	list, err := f.images.List()
	return err == nil && slices.ContainsFunc(list, func(i image.Image) bool {
		return i.Pulled && i.Desc.Digest == d && strings.HasPrefix(i.Ref, ref.Repository()) &&
			strings.IndexAny(i.Ref[len(ref.Repository()):], ":@") == 0
	})
}

// open finds the image for a platform. What a registry has told is remembered
// under its name when it is known to be an image.
func (f *Finder) open(ctx context.Context, ref registry.Ref, platform *ocispec.Platform, pull bool) (ocispec.Descriptor, *imageManifest, error) {
	a, err := f.find(ctx, ref, platform, pull)
	if err != nil {
		return a.desc, nil, err
	}
	if a.isNew || a.pulled {
		f.from.Store(ref.Repository()+"@"+a.desc.Digest.String(), true)
	}
	m, err := f.load(ctx, ref, a.desc, platform)
	if err == nil && a.isNew {
		err = f.images.PutPulled(ctx, ref.String(), a.desc)
	}
	return a.desc, m, err
}

// take puts the manifest or index that a registry has for ref into the store.
func (f *Finder) take(ctx context.Context, ref registry.Ref, desc ocispec.Descriptor, data []byte) (ocispec.Descriptor, error) {
	var err error
	if desc.MediaType, err = kindOf(data, desc.MediaType); err != nil {
		return desc, wrong("image "+ref.String(), err)
	}
	return f.keep(ctx, desc, data)
}

// wrong is the error of what cannot be used as an image. Where err has no hint it is
// the image that has to be another.
func wrong(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	var transfer *transferError
	if hint.Of(err) != "" || errors.As(err, &transfer) {
		return err
	}
	return hint.Add(err, "the image itself is at fault: choose another, or have it made again")
}

// transferError is about what could not be had, which says nothing about the image.
type transferError struct{ error }

func (e *transferError) Unwrap() error { return e.error }

// keep puts a manifest or config into the store.
func (f *Finder) keep(ctx context.Context, desc ocispec.Descriptor, data []byte) (ocispec.Descriptor, error) {
	if err := f.store.ClaimImage(desc.Digest); err != nil {
		return ocispec.Descriptor{}, err
	}
	kept, err := f.store.Blobs.Add(ctx, data, desc.MediaType)
	if err == nil && kept.Digest != desc.Digest {
		err = fmt.Errorf("blob %s: only sha256 is supported as digest", desc.Digest)
	}
	return kept, err
}

// load reads the manifest and config of an image for a platform, from the store
// or else from the repository of ref.
func (f *Finder) load(ctx context.Context, ref registry.Ref, desc ocispec.Descriptor, platform *ocispec.Platform) (*imageManifest, error) {
	read := func(desc ocispec.Descriptor) ([]byte, error) { return f.blob(ctx, ref, desc) }
	m, err := load(desc, platform, read)
	if err != nil {
		return nil, wrong("image "+ref.String(), err)
	}
	return m, nil
}

// blob reads a manifest or config of the repository of ref.
func (f *Finder) blob(ctx context.Context, ref registry.Ref, desc ocispec.Descriptor) ([]byte, error) {
	if err := f.store.ClaimImage(desc.Digest); err != nil {
		return nil, err
	}
	data, err := f.images.ReadBlob(desc)
	if err == nil {
		return data, nil
	}
	if manifest.IsManifest(desc.MediaType) {
		ref.Tag, ref.Digest = "", desc.Digest
		_, data, err = f.client.Resolve(ctx, ref)
	} else {
		data, err = f.client.ReadBlob(ctx, ref.Repository(), desc)
	}
	if err != nil {
		return nil, &transferError{err}
	}
	if desc.Size > 0 && desc.Size != int64(len(data)) {
		return nil, fmt.Errorf("blob %s has %d bytes, not the %d of its descriptor", desc.Digest, len(data), desc.Size)
	}
	_, err = f.keep(ctx, desc, data)
	return data, err
}

// Fetch gets the blob of a layer from one of its origins. It is not verified.
func (f *Finder) Fetch(ctx context.Context, l layers.Layer) (io.ReadCloser, error) {
	failed := []error{}
	for _, repository := range l.Origins {
		r, err := f.client.Blob(ctx, repository, l.Descriptor)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return nil, fmt.Errorf("where blob %s came from is not known", l.Descriptor.Digest)
	}
	return nil, errors.Join(failed...)
}

// platformOf is the platform asked for, or this machine's.
func platformOf(p *ocispec.Platform) ocispec.Platform {
	if p == nil {
		return platforms.DefaultSpec()
	}
	return platforms.Normalize(*p)
}

// kindOf returns the media type of a manifest or index. What is in the document
// counts more than what a registry's header says.
func kindOf(data []byte, said string) (string, error) {
	var doc struct {
		MediaType string            `json:"mediaType"`
		Schema    int               `json:"schemaVersion"`
		Manifests []json.RawMessage `json:"manifests"`
		Config    json.RawMessage   `json:"config"`
		FSLayers  []json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", fmt.Errorf("its manifest is not JSON: %w", err)
	}
	switch {
	case doc.Schema == 1 || doc.FSLayers != nil:
		return "", hint.Add(errors.New("its manifest has the old format (docker schema 1), which is not supported"),
			"push the image again with a current tool")
	case doc.Manifests != nil && doc.Config != nil:
		return "", errors.New("its manifest claims to be an index as well")
	case manifest.IsManifest(doc.MediaType):
		return doc.MediaType, nil
	case doc.Manifests != nil && !manifest.IsManifest(said):
		return ocispec.MediaTypeImageIndex, nil
	case doc.Config != nil && !manifest.IsManifest(said):
		return ocispec.MediaTypeImageManifest, nil
	case manifest.IsManifest(said):
		return said, nil
	}
	return "", fmt.Errorf("it is not an image but of the type %q", said)
}
