package main

import (
	"context"
	"encoding/json"
	"fmt"

	baseimage "github.com/sinter-build/sinter/builder/source/image"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

type pullFlags struct {
	showFlags
	platforms platformsFlag
}

func newPullCmd(a *app) *cobra.Command {
	f := &pullFlags{}
	c := &cobra.Command{
		Use:   "pull [flags] NAME[:TAG|@DIGEST]",
		Short: "Pull an image from a registry",
		Long: `Pull an image from a registry, or what is new of it, and with it what refers to it:
attestations and signatures. Builds pull their base images themselves; this is for
having them before, and for push, save and inspect.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkContentTrust(c.Flags()); err != nil {
				return err
			}
			return a.pull(c.Context(), f, args[0])
		},
	}
	addContentTrust(c.Flags())
	c.Flags().Var(&f.platforms, "platform", "pull these `PLATFORMS` (default this machine's)")
	f.register(c)
	return c
}

func (a *app) pull(ctx context.Context, f *pullFlags, text string) error {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return usage(err)
	}
	wanted := f.platforms
	if len(wanted) == 0 {
		wanted = platformsFlag{hostPlatform()}
	}
	var digest string
	err = a.withLibrary(ctx, func(lib library) error {
		sources, err := a.imageSources()
		if err != nil {
			return err
		}
		return a.showing(ctx, f.showFlags, "pulling "+ref.String(), func(report func(progress.Update)) error {
			p := &pulling{lib, sources, ref, report}
			for i, platform := range wanted {
				// Of the second platform on, the tag must mean the same.
				var err error
				if digest, err = p.platform(ctx, platform, i == 0); err != nil {
					return err
				}
			}
			return p.attached(ctx, wanted[0])
		})
	})
	if err != nil {
		return err
	}
	if f.quiet {
		_, err = fmt.Fprintln(a.stdout, digest)
	} else {
		_, err = fmt.Fprintf(a.stdout, "%s: digest: %s\n", ref, digest)
	}
	return err
}

// pulling is one run of the command.
type pulling struct {
	library
	sources *baseimage.Finder
	ref     registry.Ref
	report  func(progress.Update)
}

// parallelDownloads is how many layers are got at once.
const parallelDownloads = 4

// platform gets manifest, config and layers for one platform, and returns the image's
// digest. ask says that the registry is asked what the tag means.
func (p *pulling) platform(ctx context.Context, platform ocispec.Platform, ask bool) (string, error) {
	meta, err := p.sources.Resolve(ctx, p.ref.String(), &platform, ask)
	if err != nil {
		return "", err
	}
	p.warnOfPlatform(meta.Config, platform)
	chain, err := p.sources.Chain(ctx, parser.Image{Ref: p.ref.String()}, platform)
	if err != nil {
		return "", err
	}
	return meta.Digest.String(), p.downloadAll(ctx, chain)
}

// attached gets what is attested of the image and refers to it. That it cannot be had is
// warned of. platform is one that was pulled.
func (p *pulling) attached(ctx context.Context, platform ocispec.Platform) error {
	root, err := p.sources.Root(ctx, p.ref.String(), platform)
	if err != nil {
		return p.without(ctx, "its attestations and what refers to it", err)
	}
	if err := p.attestations(ctx, root); err != nil {
		return err
	}
	return p.referrers(ctx, root)
}

// without makes an error a warning that the image was pulled without something, unless
// nothing more can be pulled.
func (p *pulling) without(ctx context.Context, what string, err error) error {
	if err == nil || ctx.Err() != nil || isFull(err) {
		return err
	}
	p.warn(fmt.Sprintf("image %s is pulled without %s: %v", p.ref, what, err))
	return nil
}

// attestations gets what the image's index attests of the platforms in the store, without
// which the image could not be pushed or saved whole. Many a mirror does not have it.
func (p *pulling) attestations(ctx context.Context, root baseimage.Root) error {
	list, referring, err := p.sources.Attestations(ctx, root)
	if err == nil {
		err = p.downloadAll(ctx, list)
	}
	if err == nil {
		err = p.Images.AddReferrers(ctx, referring...)
	}
	return p.without(ctx, "its attestations", err)
}

// referrers gets what refers to the image in its registry: signatures, and attestations
// that are not in an index. What can be had is got also if there is an error.
func (p *pulling) referrers(ctx context.Context, root baseimage.Root) error {
	list, err := p.sources.Referrers(ctx, root)
	var whole []manifest.Referrer
	for _, r := range list {
		switch got := p.downloadAll(ctx, r.Blobs); {
		case got == nil:
			whole = append(whole, r.Referrer)
		case err == nil:
			err = got
		}
	}
	// They are named together, since before that all has to be on disk.
	if err := p.Images.AddReferrers(ctx, whole...); err != nil {
		return err
	}
	return p.without(ctx, "all that refers to it", err)
}

func (p *pulling) downloadAll(ctx context.Context, chain layers.Chain) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelDownloads)
	for _, l := range chain {
		group.Go(func() error { return p.download(ctx, l) })
	}
	return group.Wait()
}

// warnOfPlatform says so when an image is for another platform than was asked
// for: one that is not an index is taken as it is.
func (p *pulling) warnOfPlatform(config []byte, wanted ocispec.Platform) {
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return // whoever uses the image says it
	}
	if got := platforms.Normalize(img.Platform); !platforms.Only(wanted).Match(got) {
		p.warn(fmt.Sprintf("image %s is for %s, not %s, and has no other platform", p.ref, platforms.Format(got), platforms.Format(wanted)))
	}
}

// download gets the blob of a layer into the store, unless it is there and right:
// a pull is what people do when something is damaged.
func (p *pulling) download(ctx context.Context, l layers.Layer) error {
	if there, err := p.Store.Blobs.Intact(ctx, l.Descriptor); err != nil || there {
		return err
	}
	r, err := p.sources.Fetch(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	m := layerMeter(l, p.report)
	if err := p.Store.Blobs.Replace(ctx, l.Descriptor, m.Reader(r)); err != nil {
		return err
	}
	m.Done()
	return nil
}
