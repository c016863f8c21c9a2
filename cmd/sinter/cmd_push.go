package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/export"
	"github.com/sinter-build/sinter/builder/progress"
	"github.com/sinter-build/sinter/builder/registry"
)

type pushFlags struct {
	platform, progress string
	quiet, allTags     bool
}

func newPushCmd(a *app) *cobra.Command {
	f := &pushFlags{}
	c := &cobra.Command{
		Use:   "push [flags] IMAGE [NAME]",
		Short: "Push an image to a registry",
		Long: `Push an image to the registry that its name says, or under another NAME. Only
what the registry does not have is sent.`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
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
	c.Flags().StringVar(&f.platform, "platform", "", "push only this `PLATFORM` of the image")
	c.Flags().BoolVarP(&f.allTags, "all-tags", "a", false, "push all tags that the store has of a repository")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print only the digest")
	c.Flags().StringVar(&f.progress, "progress", "auto", "display: auto, tty, plain, quiet, none or rawjson")
	return c
}

// pushAll pushes every tag of a repository.
func (a *app) pushAll(ctx context.Context, f *pushFlags, args []string) error {
	if len(args) > 1 {
		return usagef("--all-tags and a NAME to push to do not go together")
	}
	ref, err := reference.ParseNormalizedNamed(args[0])
	if err != nil {
		return fmt.Errorf("%q is not an image name: %w", args[0], err)
	}
	if !reference.IsNameOnly(ref) {
		return usagef("with --all-tags the repository is named without a tag, not %q", args[0])
	}
	a.reads = true
	all, err := a.allImages(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, n := range all {
		if strings.HasPrefix(n.Ref, ref.Name()+":") {
			names = append(names, n.Ref)
		}
	}
	if len(names) == 0 {
		return &noImageError{args[0]}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := a.push(ctx, f, name, name); err != nil {
			return err
		}
	}
	return nil
}

// push pushes the image that text stands for, as the name it is to have there.
func (a *app) push(ctx context.Context, f *pushFlags, text, as string) error {
	platform, err := platformFlag(f.platform)
	if err != nil {
		return err
	}
	name, err := registry.ParseRef(as)
	if err != nil {
		return usage(err)
	}
	release, err := a.sharedToRead(ctx)
	if err != nil {
		return err
	}
	defer release()
	n, err := a.find(ctx, text)
	if err != nil {
		return err
	}
	built, err := a.whole(n, platform)
	if err != nil {
		return err
	}
	client, err := a.registry()
	if err != nil {
		return err
	}
	err = a.showing(ctx, f.progress, f.quiet, "pushing "+name.String(), func(report func(progress.Update)) error {
		err := client.Push(ctx, name.String(), built, report)
		if err == nil || isInterrupted(ctx, err) {
			return err
		}
		return &export.PushError{Names: []string{as}, Source: text, Platform: f.platform, Err: err}
	})
	if err != nil {
		return err
	}
	if f.quiet {
		_, err = fmt.Fprintln(a.stdout, built.Digest())
	} else {
		_, err = fmt.Fprintf(a.stdout, "%s: digest: %s size: %s\n", name, built.Digest(), humanSize(built.Size()))
	}
	return err
}

// showing shows do as one step, with the transfers in it.
func (a *app) showing(ctx context.Context, mode string, quiet bool, title string, do func(report func(progress.Update)) error) error {
	if quiet {
		mode = "quiet"
	}
	if mode == "none" { // buildx's other name
		mode = "quiet"
	}
	s, err := newScreen(a.stderr, mode)
	if err != nil {
		return usage(err)
	}
	a.rawJSON, a.screen = mode == rawJSON, s
	defer s.close()
	s.show()
	step := progress.StepOf(title)
	s.event(progress.Declared{Step: step, Name: title})
	s.event(progress.Started{Step: step, Name: title, Time: time.Now()})
	err = do(func(p progress.Update) {
		p.Step = step
		s.event(p)
	})
	s.event(progress.End(ctx, step, title, err))
	return err
}
