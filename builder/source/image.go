package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// Images finds base images: in the store, in registries and in OCI layouts on
// disk. Each is looked up once, so that all who ask in one build get the same
// answer; layers are noted in the store, and their bytes come when they are
// needed.
type Images struct {
	store   *store.Store
	images  *image.Images
	client  *registry.Client
	layouts map[string]string

	mu    sync.Mutex
	found map[string]*lookup
}

// Meta is what is known of an image for one platform.
type Meta struct {
	// Ref is the full name.
	Ref string
	// Digest is that of the manifest or index that the name stands for.
	Digest digest.Digest
	// Config is the image's config as JSON.
	Config []byte
}

// lookup is the answer to one question, given once.
type lookup struct {
	once  sync.Once
	meta  Meta
	chain layers.Chain
	err   error
}

// NewImages returns images from the store, or from registries when the store
// does not know them.
func NewImages(s *store.Store, images *image.Images, client *registry.Client) *Images {
	return &Images{store: s, images: images, client: client, layouts: map[string]string{}, found: map[string]*lookup{}}
}

// Resolve looks an image up by name for a platform (nil: this machine's). The
// store is asked first, unless pull is set.
func (i *Images) Resolve(ctx context.Context, ref string, p *ocispec.Platform, pull bool) (Meta, error) {
	l, err := i.lookUp(ctx, ref, platformOr(p), pull)
	if err != nil {
		return Meta{}, err
	}
	return l.meta, nil
}

// ResolveLayout looks an image up in a layout on disk.
func (i *Images) ResolveLayout(ctx context.Context, storeID, ref string, p *ocispec.Platform) (Meta, error) {
	l, err := i.lookUpLayout(ctx, storeID, ref, platformOr(p))
	if err != nil {
		return Meta{}, err
	}
	return l.meta, nil
}

// Chain returns the layers of a parser.Image or parser.OCILayout.
func (i *Images) Chain(ctx context.Context, op parser.Op, p ocispec.Platform) (layers.Chain, error) {
	if p.OS == "" {
		p = platformOr(nil)
	}
	var l *lookup
	var err error
	var limit int
	switch op := op.(type) {
	case parser.Image:
		limit = op.LayerLimit
		if l, err = i.lookUp(ctx, op.Ref, p, false); err == nil && op.Checksum != "" && l.meta.Digest != op.Checksum {
			err = fmt.Errorf("image %s has digest %s, not %s", op.Ref, l.meta.Digest, op.Checksum)
		}
	case parser.OCILayout:
		limit = op.LayerLimit
		l, err = i.lookUpLayout(ctx, op.StoreID, op.Ref, p)
	default:
		err = fmt.Errorf("%T is no image", op)
	}
	if err != nil {
		return nil, err
	}
	if limit > 0 && limit < len(l.chain) {
		return l.chain[:limit], nil
	}
	return l.chain, nil
}

func platformOr(p *ocispec.Platform) ocispec.Platform {
	if p != nil && p.OS != "" {
		return platforms.Normalize(*p)
	}
	return platforms.Normalize(platforms.DefaultSpec())
}

func (i *Images) once(key string, ask func() (Meta, layers.Chain, error)) (*lookup, error) {
	i.mu.Lock()
	l := i.found[key]
	if l == nil {
		l = &lookup{}
		i.found[key] = l
	}
	i.mu.Unlock()
	l.once.Do(func() { l.meta, l.chain, l.err = ask() })
	return l, l.err
}

func (i *Images) lookUp(ctx context.Context, ref string, p ocispec.Platform, pull bool) (*lookup, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("image name %q: %w", ref, err)
	}
	named = reference.TagNameOnly(named)
	// What was resolved by tag is asked for again by tag and digest.
	return i.once(named.String()+" "+platforms.FormatAll(p), func() (Meta, layers.Chain, error) {
		desc, err := i.manifest(ctx, named, pull)
		if err != nil {
			return Meta{}, nil, err
		}
		b := bundle{read: i.readBlob(ctx, named.Name()), origin: named.Name(), ref: ref}
		return i.open(ctx, b, desc, p)
	})
}

// manifest returns what a name stands for, with its bytes in the store. A name
// is remembered, so that the next build need not ask the registry.
func (i *Images) manifest(ctx context.Context, named reference.Named, pull bool) (ocispec.Descriptor, error) {
	key := named.String()
	if d, ok := named.(reference.Digested); ok {
		key = reference.TrimNamed(named).String() + "@" + d.Digest().String()
		pull = false
	}
	if !pull {
		desc, err := i.images.Get(key)
		if err == nil {
			if _, err = i.images.ReadBlob(desc); err == nil {
				return desc, nil
			}
		}
		if !errors.Is(err, fs.ErrNotExist) && err != nil {
			return desc, err
		}
		if desc, ok := i.byDigest(named); ok {
			return desc, nil
		}
	}
	m, err := i.client.Resolve(ctx, key)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if d, ok := named.(reference.Digested); ok && digest.FromBytes(m.Raw) != d.Digest() {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: the registry sent another manifest, %s", named, digest.FromBytes(m.Raw))
	}
	desc, err := i.images.PutBlob(m.Raw, m.Desc.MediaType)
	if err != nil {
		return desc, err
	}
	return desc, i.images.PutPulled(ctx, key, desc)
}

// byDigest finds the manifest of a name with digest under any name.
func (i *Images) byDigest(named reference.Named) (ocispec.Descriptor, bool) {
	d, ok := named.(reference.Digested)
	if !ok {
		return ocispec.Descriptor{}, false
	}
	list, err := i.images.List()
	if err != nil {
		return ocispec.Descriptor{}, false
	}
	for _, img := range list {
		if img.Desc.Digest == d.Digest() {
			if _, err := i.images.ReadBlob(img.Desc); err == nil {
				return img.Desc, true
			}
		}
	}
	return ocispec.Descriptor{}, false
}

// readBlob returns a function that reads manifests and configs, from the store
// or the registry, and keeps them.
func (i *Images) readBlob(ctx context.Context, repo string) func(ocispec.Descriptor) ([]byte, error) {
	return func(desc ocispec.Descriptor) ([]byte, error) {
		data, err := i.images.ReadBlob(desc)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
		if isManifest(desc.MediaType) || isIndex(desc.MediaType) {
			m, err := i.client.Resolve(ctx, repo+"@"+desc.Digest.String())
			if err != nil {
				return nil, err
			}
			data = m.Raw
		} else if data, err = i.download(ctx, repo, desc); err != nil {
			return nil, err
		}
		if digest.FromBytes(data) != desc.Digest {
			return nil, fmt.Errorf("%s@%s: the registry sent other bytes than the digest says", repo, desc.Digest)
		}
		_, err = i.images.PutBlob(data, desc.MediaType)
		return data, err
	}
}

// maxConfig is the most that an image's config may have, in bytes.
const maxConfig = 8 << 20

func (i *Images) download(ctx context.Context, repo string, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("%s@%s: a config of %d bytes is too large", repo, desc.Digest, desc.Size)
	}
	r, err := i.client.Blob(ctx, repo, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxConfig+1))
}

// Fetch gets the blob of a layer from where it is known to be. It is for
// store.Options.
func (i *Images) Fetch(ctx context.Context, l layers.Layer) (io.ReadCloser, error) {
	var errs []error
	for _, origin := range l.Origins {
		var r io.ReadCloser
		var err error
		if dir, ok := strings.CutPrefix(origin, layoutOrigin); ok {
			r, err = openLayoutBlob(dir, l.Descriptor)
		} else {
			r, err = i.client.Blob(ctx, origin, l.Descriptor)
		}
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("getting layer %s: %w", l.Descriptor.Digest, errors.Join(errs...))
}

// Pull gets all of an image: its manifest for p, config and layers. The result
// describes what the name stands for.
func (i *Images) Pull(ctx context.Context, ref string, p *ocispec.Platform) (ocispec.Descriptor, error) {
	l, err := i.lookUp(ctx, ref, platformOr(p), true)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := i.store.Fetch(ctx, l.chain); err != nil {
		return ocispec.Descriptor{}, err
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return i.images.Get(reference.TagNameOnly(named).String())
}

// config is the part of an image's config that matters here.
type config struct {
	OS     string `json:"os"`
	RootFS struct {
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	History []ocispec.History `json:"history"`
}

func decodeConfig(data []byte) (*config, error) {
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("diff ID %q: %w", d, err)
		}
	}
	return &c, nil
}
