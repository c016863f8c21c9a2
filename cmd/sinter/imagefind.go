package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/gc"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

// namedImage is an image of the store by one of its names.
type namedImage struct {
	image.Image
	built *stored.Image
}

// id is what docker calls the image's ID: the digest of the config, or of the
// index when it is for several platforms.
func (n namedImage) id() digest.Digest {
	if len(n.built.Manifests) == 1 {
		return n.built.Manifests[0].Config.Digest
	}
	return n.Desc.Digest
}

// shortID is an ID as tables show it.
func shortID(d digest.Digest) string {
	return d.Encoded()[:12]
}

// shown returns what a command shows of the image: the part for a platform, or all if
// that is nil, and in it the manifest that this machine would run, or else the first.
func (n namedImage) shown(platform *ocispec.Platform) (*stored.Image, stored.Manifest, error) {
	built, err := n.built, error(nil)
	if platform != nil {
		built, err = built.Only(*platform)
	}
	if err != nil {
		return nil, stored.Manifest{}, err
	}
	if len(built.Manifests) == 0 {
		return nil, stored.Manifest{}, fmt.Errorf("no platform of image %s is in the store", displayName(n))
	}
	if one, err := built.Only(hostPlatform()); err == nil {
		return built, one.Manifests[0], nil
	}
	return built, built.Manifests[0], nil
}

// readConfig reads the config of a manifest into each of several values.
func (n namedImage) readConfig(ctx context.Context, m stored.Manifest, to ...any) error {
	data, err := n.built.Read(ctx, m.Config)
	for _, v := range to {
		if err == nil {
			err = json.Unmarshal(data, v)
		}
	}
	if err != nil {
		return fmt.Errorf("reading the config of %s: %w", displayName(n), err)
	}
	return nil
}

// config is that of the only platform, or of the first of several.
func (n namedImage) config(ctx context.Context) (config ocispec.Image, err error) {
	if len(n.built.Manifests) > 0 {
		err = n.readConfig(ctx, n.built.Manifests[0], &config)
	}
	return config, err
}

// library is the store with its images, while the store's lock is shared.
type library struct {
	gc.Env
	warn func(text string)
}

// library opens the store with its images.
func (a *app) library() (lib library, err error) {
	lib.warn = a.warn
	if lib.Store, err = a.store(); err != nil {
		return lib, err
	}
	if lib.Cache, err = a.cache(); err != nil {
		return lib, err
	}
	lib.Images, err = a.images()
	return lib, err
}

// withLibrary does something with the images of the store.
func (a *app) withLibrary(ctx context.Context, do func(library) error) error {
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	lib, err := a.library()
	if err != nil {
		return err
	}
	return do(lib)
}

// readLibrary is withLibrary for a command that keeps nothing.
func (a *app) readLibrary(ctx context.Context, do func(library) error) error {
	a.reads = true
	return a.withLibrary(ctx, do)
}

// readImage is readLibrary for a command about the image that text stands for.
func (a *app) readImage(ctx context.Context, text string, do func(library, namedImage) error) error {
	return a.readLibrary(ctx, func(lib library) error {
		n, err := lib.find(ctx, text)
		if err != nil {
			return err
		}
		return do(lib, n)
	})
}

// all returns the images of the store. One whose manifest is damaged or gone is
// warned of.
func (lib library) all(ctx context.Context) ([]namedImage, error) {
	list, err := lib.Images.List()
	if err != nil {
		return nil, err
	}
	var all []namedImage
	for _, img := range list {
		if img.Ref == "" && slices.ContainsFunc(list, func(o image.Image) bool { return o.Ref != "" && o.Desc.Digest == img.Desc.Digest }) {
			continue
		}
		built, err := stored.Open(ctx, lib.Store, img.Desc)
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if isNamed(lib.Images, img) { // otherwise another process has removed it
				lib.warn(fmt.Sprintf("image %s cannot be read: %v", cmp.Or(img.Ref, img.Desc.Digest.String()), err))
			}
			continue
		}
		all = append(all, namedImage{img, built})
	}
	return all, nil
}

// find returns the image that a name, an ID or a digest stands for.
func (lib library) find(ctx context.Context, text string) (namedImage, error) {
	list, err := lib.findAll(ctx, text)
	if err != nil {
		return namedImage{}, err
	}
	return list[0], nil
}

// findAll returns an image once for each of its names that text stands for: of a
// name that is one, of an ID all.
func (lib library) findAll(ctx context.Context, text string) ([]namedImage, error) {
	ref, nameErr := registry.ParseRef(text)
	if nameErr == nil {
		img, err := lib.Images.Find(ref.String())
		if err == nil {
			built, err := stored.Open(ctx, lib.Store, img.Desc)
			if errors.Is(err, fs.ErrNotExist) && !isNamed(lib.Images, img) {
				return nil, &noImageError{text} // another process has removed it
			}
			if err != nil {
				return nil, err
			}
			return []namedImage{{img, built}}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	all, err := lib.all(ctx)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(all, func(n namedImage) bool { return !n.is(text, ref) })
	if len(found) == 0 && nameErr != nil {
		return nil, usage(nameErr)
	}
	if len(found) == 0 {
		return nil, &noImageError{text}
	}
	for _, n := range found {
		if n.Desc.Digest != found[0].Desc.Digest {
			return nil, fmt.Errorf("%q matches several images: %s and %s", text, shortID(found[0].id()), shortID(n.id()))
		}
	}
	return found, nil
}

// is reports whether text is (the beginning of) the image's ID or digest, or
// names its repository with its digest.
func (n namedImage) is(text string, ref registry.Ref) bool {
	if ref.Digest != "" {
		return n.Desc.Digest == ref.Digest && strings.HasPrefix(n.Ref, ref.Repository()+":")
	}
	hex := strings.TrimPrefix(text, "sha256:")
	if len(hex) < 4 || strings.Trim(hex, "0123456789abcdef") != "" {
		return false
	}
	return strings.HasPrefix(n.id().Encoded(), hex) || strings.HasPrefix(n.Desc.Digest.Encoded(), hex)
}

// whole is the image, or that of one platform of it, if all of it is there. Of a
// pulled image often only this machine's platform is: that is then taken, with a
// warning.
func (lib library) whole(n namedImage, platform *ocispec.Platform) (*stored.Image, error) {
	if platform != nil {
		return n.built.Only(*platform)
	}
	if len(n.built.Missing) == 0 {
		return n.built, nil
	}
	partly := slices.ContainsFunc(n.built.Missing, func(d ocispec.Descriptor) bool { return !manifest.IsAttestation(d) })
	have := n.built.Platforms()
	switch {
	case len(have) == 1 && partly:
		lib.warn(fmt.Sprintf("the store has image %s only for %s: the others are left out", displayName(n), have[0]))
	case len(have) == 1:
		lib.warn(fmt.Sprintf("image %s is used without its attestations, which are not in the store%s", displayName(n), n.pullGets("them", have)))
	case partly:
		return nil, hint.Add(
			fmt.Errorf("the store has image %s only for some of its platforms: %s", displayName(n), strings.Join(have, ", ")),
			"choose one with --platform, or get the others with sinter pull",
		)
	default:
		return nil, hint.Add(
			fmt.Errorf("the attestations of image %s are not in the store", displayName(n)),
			"get them with sinter pull --platform "+strings.Join(have, ",")+" NAME, or choose a platform with --platform",
		)
	}
	return n.built.Only(n.built.Manifests[0].Platform)
}

// shared checks that the store can be used, and shares its lock with commands of
// older versions, whose prune knows of no claims.
func (a *app) shared(ctx context.Context) (release func(), err error) {
	root, err := a.ownRoot()
	if err == nil && !a.reads {
		err = storeMistake(store.CheckWritable(root))
	}
	if err != nil {
		return nil, err
	}
	records, err := a.cache()
	if err != nil {
		return nil, err
	}
	release, err = records.Share(ctx)
	if err != nil && ctx.Err() == nil {
		err = storeMistake(err)
	}
	return release, err
}
