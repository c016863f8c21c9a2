package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
	"github.com/sinter-build/sinter/builder/stored"
)

type pushFlags struct {
	showFlags
	platform platformFlag
	allTags  bool
}

func newPushCmd(a *app) *cobra.Command {
	f := &pushFlags{}
	c := &cobra.Command{
		Use:   "push [flags] IMAGE [NAME]",
		Short: "Push an image to a registry",
		Long: `Push an image to the registry in its name, or under another NAME, and with it what
refers to it: attestations and signatures. Blobs that the registry has are not sent
again.`,
		Args:              usageArgs(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: a.imageNames,
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkContentTrust(c.Flags()); err != nil {
				return err
			}
			if f.allTags {
				return a.pushAll(c.Context(), f, args)
			}
			return a.push(c.Context(), f, args[0], args[len(args)-1])
		},
	}
	addContentTrust(c.Flags())
	c.Flags().Var(&f.platform, "platform", "push only this `PLATFORM` of the image")
	c.Flags().BoolVarP(&f.allTags, "all-tags", "a", false, "push every tag of the repository that is in the store")
	f.register(c)
	return c
}

// pushAll pushes every tag of a repository.
func (a *app) pushAll(ctx context.Context, f *pushFlags, args []string) error {
	if len(args) > 1 {
		return usagef("--all-tags and a NAME to push to exclude each other")
	}
	ref, err := reference.ParseNormalizedNamed(args[0])
	if err != nil {
		return usagef("%q is not an image name: %w", args[0], err)
	}
	if !reference.IsNameOnly(ref) {
		return usagef("with --all-tags the repository is named without a tag, not %q", args[0])
	}
	return a.readLibrary(ctx, func(lib library) error {
		all, err := lib.all(ctx)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(n namedImage) bool { return !strings.HasPrefix(n.Ref, ref.Name()+":") })
		if len(all) == 0 {
			return &noImageError{args[0]}
		}
		slices.SortStableFunc(all, func(x, y namedImage) int { return strings.Compare(x.Ref, y.Ref) })
		for _, n := range all {
			if err := a.pushImage(ctx, f, lib, n, n.Ref, n.Ref); err != nil {
				return err
			}
		}
		return nil
	})
}

// push pushes the image that text stands for, under the name as.
func (a *app) push(ctx context.Context, f *pushFlags, text, as string) error {
	if _, err := registry.ParseRef(as); err != nil {
		return usage(err)
	}
	return a.readImage(ctx, text, func(lib library, n namedImage) error {
		return a.pushImage(ctx, f, lib, n, text, as)
	})
}

func (a *app) pushImage(ctx context.Context, f *pushFlags, lib library, n namedImage, text, as string) error {
	name, err := registry.ParseRef(as)
	if err != nil {
		return err
	}
	built, err := lib.whole(n, f.platform.Platform)
	if err != nil {
		return err
	}
	referrers, err := lib.referrers(ctx, n, built)
	if err != nil {
		return err
	}
	client, err := a.registry()
	if err != nil {
		return err
	}
	var refused error
	err = a.showing(ctx, f.showFlags, "pushing "+name.String(), func(report func(progress.Update)) error {
		err := client.Push(ctx, name.String(), built, report)
		if err == nil {
			referrers, refused, err = pushReferrers(ctx, client, name, referrers, report)
		}
		if err == nil || isInterrupted(ctx, err) {
			return err
		}
		return &export.PushError{Names: []string{as}, Source: text, Platform: f.platform.String(), Err: err}
	})
	if err != nil {
		return err
	}
	if refused != nil {
		a.warn(fmt.Sprintf("%s is pushed, but not its provenance: %v", name, refused))
	}
	if f.quiet {
		_, err = fmt.Fprintln(a.stdout, built.Digest())
		return err
	}
	if _, err = fmt.Fprintf(a.stdout, "%s: digest: %s size: %s\n", name, built.Digest(), humanSize(built.Size())); err != nil || len(referrers) == 0 {
		return err
	}
	var size int64
	for _, r := range referrers {
		size += r.Size()
	}
	_, err = fmt.Fprintf(a.stdout, "%s: referrers: %d size: %s\n", name, len(referrers), humanSize(size))
	return err
}

// pushReferrers pushes what refers to an image that is pushed, and returns what went. That
// a registry does not take provenance, which every build makes by itself, is told as
// refused: who has not asked for it has all that they wanted.
func pushReferrers(ctx context.Context, client *registry.Client, name registry.Ref, list []stored.Referrer, report func(progress.Update)) (pushed []stored.Referrer, refused, err error) {
	pushed, err = registry.PushReferrers(ctx, client, name.Repository(), list, report, func(r stored.Referrer, err error) bool {
		provenance := r.Desc.ArtifactType == manifest.AttestationType && strings.HasPrefix(r.Desc.Annotations[manifest.PredicateTypeKey], manifest.PredicateSLSA)
		if provenance {
			refused = err
		}
		return provenance
	})
	if err != nil {
		return pushed, nil, fmt.Errorf("the image is pushed, but not all that refers to it: %w", err)
	}
	return pushed, refused, nil
}
