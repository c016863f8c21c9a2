package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sinter-build/sinter/builder/load"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/hostfile"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

type loadFlags struct {
	input string
	tags  []string
	quiet bool
}

func newLoadCmd(a *app) *cobra.Command {
	f := &loadFlags{}
	c := &cobra.Command{
		Use:   "load [flags]",
		Short: "Load images from an archive",
		Long: `Load images from an archive, plain or compressed, of docker save, podman save or
sinter save, from an OCI archive, or from the directory of an OCI layout.`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.load(c.Context(), f)
		},
	}
	c.Flags().StringVarP(&f.input, "input", "i", "", "read from `FILE` or directory (default standard input)")
	c.Flags().StringArrayVarP(&f.tags, "tag", "t", nil, "name the image `NAME[:TAG]`, not as the archive does (repeatable)")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print nothing")
	return c
}

func (a *app) load(ctx context.Context, f *loadFlags) error {
	names, err := tagNames(f.tags)
	if err != nil {
		return err
	}
	return a.withLibrary(ctx, func(lib library) error {
		loaded, err := a.loadFrom(ctx, lib.Store, f.input)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			if n := len(loaded.Images); n > 1 {
				return usagef("--tag is for one image, but there are %d", n)
			}
			loaded.Images[0].Names = names
		}
		out := a.stdout
		if f.quiet {
			out = io.Discard
		}
		return lib.keep(ctx, out, loaded)
	})
}

func (a *app) loadFrom(ctx context.Context, s *store.Store, input string) (*load.Loaded, error) {
	in := a.stdin
	if input == "" || input == "-" {
		if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return nil, usage(hint.Add(errors.New("stdin is a terminal"), "name a file with --input FILE"))
		}
		from := interruptible(ctx, in)
		defer from.Close()
		return load.Archive(ctx, s, from)
	}
	if info, err := os.Stat(input); err == nil && info.IsDir() {
		return load.Layout(ctx, s, input)
	}
	f, err := hostfile.OpenStream(ctx, input)
	if err != nil {
		return nil, hint.Add(err, "name an archive, or the directory of an OCI layout, that this user can read")
	}
	defer f.Close()
	loaded, err := load.Archive(ctx, s, f)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", input, err)
	}
	return loaded, nil
}

// keep gives loaded images their names, and says so to out.
func (lib library) keep(ctx context.Context, out io.Writer, loaded *load.Loaded) error {
	if err := lib.Images.AddReferrers(ctx, loaded.Referrers...); err != nil {
		return err
	}
	for _, img := range loaded.Images {
		names := img.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			if err := lib.Images.Put(ctx, name, img.Desc); err != nil {
				return err
			}
			text := "Loaded image: " + image.Familiar(name)
			if name == "" {
				text = "Loaded image ID: " + img.Desc.Digest.String()
			}
			if _, err := fmt.Fprintln(out, text); err != nil {
				return err
			}
		}
	}
	return nil
}
