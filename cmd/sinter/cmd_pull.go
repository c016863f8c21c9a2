package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/parser"
)

type pullFlags struct {
	platforms []string
	progress  string
	quiet     bool
}

func newPullCmd(a *app) *cobra.Command {
	f := &pullFlags{}
	c := &cobra.Command{
		Use:   "pull [flags] NAME[:TAG|@DIGEST]",
		Short: "Get an image from a registry",
		Long: `Get an image from a registry, or what is new of it. Builds get their base images
by themselves; this is for having them before, and for push, save and inspect.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkContentTrust(c.Flags()); err != nil {
				return err
			}
			return a.pull(c.Context(), f, args[0])
		},
	}
	addContentTrust(c.Flags())
	c.Flags().StringSliceVar(&f.platforms, "platform", nil, "get the image for these `PLATFORMS` (default this machine's)")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only the digest")
	c.Flags().StringVar(&f.progress, "progress", "auto", "display: auto, tty, plain, quiet, none or rawjson")
	return c
}

func (a *app) pull(ctx context.Context, f *pullFlags, text string) error {
	ref, err := registry.ParseRef(text)
	if err != nil {
		return usage(err)
	}
	wanted := []ocispec.Platform{hostPlatform()}
	if len(f.platforms) > 0 {
		wanted = nil
	}
	for _, text := range f.platforms {
		p, err := platformFlag(text)
		if err != nil {
			return err
		}
		wanted = append(wanted, *p)
	}
	release, err := a.shared(ctx)
	if err != nil {
		return err
	}
	defer release()
	var digest string
	err = a.showing(ctx, f.progress, f.quiet, "pulling "+ref.String(), func(report func(progress.Update)) error {
		for i, p := range wanted {
			// Of the second platform on, the tag must mean the same.
			var err error
			if digest, err = a.pullPlatform(ctx, ref, p, i == 0, report); err != nil {
				return err
			}
		}
		return a.pullAttestations(ctx, ref, wanted[0], report)
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

// parallelDownloads is how many layers are got at once.
const parallelDownloads = 4

// pullPlatform gets manifest, config and layers for one platform.
func (a *app) pullPlatform(ctx context.Context, ref registry.Ref, p ocispec.Platform, ask bool, report func(progress.Update)) (string, error) {
	sources, err := a.imageSources()
	if err != nil {
		return "", err
	}
	meta, err := sources.Resolve(ctx, ref.String(), &p, ask)
	if err != nil {
		return "", err
	}
	a.warnOfPlatform(ref, meta.Config, p)
	chain, err := sources.Chain(ctx, parser.Image{Ref: ref.String()}, p)
	if err != nil {
		return "", err
	}
	return meta.Digest.String(), a.downloadAll(ctx, chain, report)
}

// pullAttestations gets what the image's index attests of the platforms in the
// store, without which the image could not be pushed or saved whole. Many a mirror
// does not have it, so that is not an error.
func (a *app) pullAttestations(ctx context.Context, ref registry.Ref, p ocispec.Platform, report func(progress.Update)) error {
	list, err := a.sources.Attestations(ctx, ref.String(), p)
	if err == nil {
		err = a.downloadAll(ctx, list, report)
	}
	if err != nil && ctx.Err() == nil && !isFull(err) {
		a.warn(fmt.Sprintf("image %s is pulled without its attestations: %v", ref, err))
		return nil
	}
	return err
}

func (a *app) downloadAll(ctx context.Context, chain layers.Chain, report func(progress.Update)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelDownloads)
	for _, l := range chain {
		group.Go(func() error { return a.download(ctx, l, report) })
	}
	return group.Wait()
}

// warnOfPlatform says so when an image is for another platform than was asked
// for: one that is no index is taken as it is.
func (a *app) warnOfPlatform(ref registry.Ref, config []byte, wanted ocispec.Platform) {
	var img ocispec.Image
	if err := json.Unmarshal(config, &img); err != nil {
		return // whoever uses the image says it
	}
	if got := platforms.Normalize(img.Platform); !platforms.Only(wanted).Match(got) {
		a.warn(fmt.Sprintf("image %s is for %s, not %s, and there is no other", ref, platforms.Format(got), platforms.Format(wanted)))
	}
}

// download gets the blob of a layer into the store, unless it is there and right:
// a pull is what people do when something is damaged.
func (a *app) download(ctx context.Context, l layers.Layer, report func(progress.Update)) error {
	if there, err := a.layers.Intact(ctx, l.Descriptor); err != nil || there {
		return err
	}
	sources, err := a.imageSources()
	if err != nil {
		return err
	}
	r, err := sources.Fetch(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	m := &meter{r: r, report: report, p: progress.Update{
		ID: l.Descriptor.Digest.String(), Total: l.Descriptor.Size, Started: time.Now(),
	}}
	if err := a.layers.ReplaceBlob(ctx, l.Descriptor, m); err != nil {
		return err
	}
	m.p.Done = time.Now()
	report(m.p)
	return nil
}

// meter tells how much of a download has been read.
type meter struct {
	r      io.Reader
	report func(progress.Update)
	p      progress.Update
	told   time.Time
}

// meterPause is the time between two events of one download.
const meterPause = 100 * time.Millisecond

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.p.Current += int64(n)
	if now := time.Now(); now.Sub(m.told) >= meterPause {
		m.told = now
		m.report(m.p)
	}
	return n, err
}
