package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sinter-build/sinter/builder/gc"
	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/builder/source/web"
	"github.com/sinter-build/sinter/builder/stored"
	"github.com/sinter-build/sinter/cache"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/folder"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/layers/image"
	"github.com/sinter-build/sinter/layers/store"
)

func newVerifyCmd(a *app) *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check everything in the store",
		Long: `Read everything in the store and compare it with its digests: blobs, layers,
images with their diff IDs and what refers to them, downloads.

With --repair remove what is damaged; builds and pulls make or get it again. What
running builds and other commands use stays.`,
		Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if done, err := a.reexec(c.Context(), nil); done || err != nil {
				return err
			}
			return a.verify(c.Context(), repair)
		},
	}
	c.Flags().BoolVar(&repair, "repair", false, "remove what is damaged")
	return c
}

func (a *app) verify(ctx context.Context, repair bool) error {
	a.reads = !repair
	return a.withLibrary(ctx, func(lib library) error {
		lines, bad, err := verifyContent(ctx, lib.Env, repair)
		if err != nil {
			return err
		}
		// What was removed is said whatever comes after.
		if err := printLines(a.stdout, lines); err != nil {
			return err
		}
		named, images, err := verifyNamed(ctx, lib.Env)
		if err != nil {
			return err
		}
		lost, left, err := verifyReferrers(ctx, lib.Env, repair)
		if err != nil {
			return err
		}
		bad, named = bad+len(named)+left, append(named, lost...)
		if bad == 0 {
			named = append(named, fmt.Sprintf("OK: %s verified", count(images, "image")))
		}
		if err := printLines(a.stdout, named); err != nil {
			return err
		}
		return foundProblems(bad, repair, lib.Store.IsUnlocked())
	})
}

func printLines(w io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// foundProblems is the error about problems in the store; nil if there are none. In an
// unlocked store some may be due to other commands, which changed it while it was read.
func foundProblems(n int, repair, unlocked bool) error {
	if n == 0 {
		return nil
	}
	err := fmt.Errorf("problems in the store: %d", n)
	switch {
	case unlocked:
		return hint.Add(fmt.Errorf("%w, or another command was changing it: this process can only read the store, and could not lock it", err),
			"verify it again when no other command uses it, or where it can be written to")
	case repair:
		return hint.Add(err, "an image that is damaged has to be built or pulled again; sinter rmi removes it")
	}
	return hint.Add(err, "sinter verify --repair removes what is damaged, so that it is made or got again; an image that is damaged has to be built or pulled again")
}

// verifyContent says what is wrong with blobs and layers and what was repaired, and
// returns how many problems there are still.
func verifyContent(ctx context.Context, env gc.Env, repair bool) (lines []string, bad int, err error) {
	problems, err := env.Store.Verify(ctx)
	if err != nil {
		return nil, 0, err
	}
	steps, err := stepsOf(ctx, env.Cache, problems)
	if err != nil {
		return nil, 0, err
	}
	for _, p := range problems {
		lines = append(lines, p.String()+cost(p, steps))
	}
	if !repair {
		return lines, len(problems), nil
	}
	left, err := env.Store.Repair(ctx, problems)
	if err != nil {
		return nil, 0, err
	}
	for _, p := range left {
		lines = append(lines, p.Path+": another command uses it or has changed it: not removed")
	}
	return append(lines, fmt.Sprintf("removed: %d", len(problems)-len(left))), len(left), nil
}

// stepsOf returns the names of the steps whose results are lost.
func stepsOf(ctx context.Context, c *cache.Store, problems []store.Problem) (map[layers.ID][]string, error) {
	steps := map[layers.ID][]string{}
	if !slices.ContainsFunc(problems, func(p store.Problem) bool { return p.Lost }) {
		return steps, nil
	}
	records, err := c.All(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		for _, o := range r.Record.Outputs {
			for _, id := range o.Layers {
				if id := layers.ID(id); !slices.Contains(steps[id], r.Record.Name) {
					steps[id] = append(steps[id], r.Record.Name)
				}
			}
		}
	}
	return steps, nil
}

// cost says which steps have to run again because of a problem.
func cost(p store.Problem, steps map[layers.ID][]string) string {
	names := steps[p.Layer]
	if !p.Lost || len(names) == 0 {
		return ""
	}
	const shown = 3
	slices.Sort(names)
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	return "; to be run again: " + strings.Join(names, "; ") + more
}

// verifyNamed says what is wrong with downloads and images, and how many images
// there are.
func verifyNamed(ctx context.Context, env gc.Env) (lines []string, images int, err error) {
	if lines, err = web.Verify(ctx, env.Store.Root()); err != nil {
		return nil, 0, err
	}
	list, err := env.Images.List()
	if err != nil {
		return nil, 0, err
	}
	layersOf := layerCheck{store: env.Store, done: map[layers.ID]error{}}
	for _, img := range list {
		lines = append(lines, verifyImage(ctx, env, img, layersOf)...)
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
	}
	return lines, len(list), nil
}

// verifyImage says what is wrong with an image, unless another process has removed it.
func verifyImage(ctx context.Context, env gc.Env, img image.Image, layersOf layerCheck) (lines []string) {
	wrong := imageProblems(ctx, env.Store, img, layersOf)
	if len(wrong) == 0 || !isNamed(env.Images, img) {
		return nil
	}
	name := image.Familiar(img.Ref)
	if name == "" {
		name = img.Desc.Digest.String()
	}
	for _, err := range wrong {
		lines = append(lines, fmt.Sprintf("image %s: %v", name, err))
	}
	return lines
}

func imageProblems(ctx context.Context, s *store.Store, img image.Image, layersOf layerCheck) (wrong []error) {
	built, err := stored.Open(ctx, s, img.Desc)
	if err != nil {
		return []error{err}
	}
	for _, d := range built.Blobs() {
		// A pulled layer comes when it is needed. Where from is noted after the
		// image has its name.
		if !s.Blobs.Has(d) && len(built.Origins(d.Digest)) == 0 && !img.Pulled {
			wrong = append(wrong, fmt.Errorf("its blob %s is missing", d.Digest))
		}
	}
	for _, m := range built.Manifests {
		wrong = append(wrong, layersOf.check(ctx, m.Layers)...)
	}
	return wrong
}

// verifyReferrers says what is wrong with what refers to images, and how much of that
// stays. With repair, lists of referrers lose what is not there or damaged.
func verifyReferrers(ctx context.Context, env gc.Env, repair bool) (lines []string, left int, err error) {
	subjects, err := env.Images.Subjects()
	if err != nil {
		return nil, 0, err
	}
	for _, subject := range subjects {
		list, err := env.Images.Referrers(subject)
		wrong := map[digest.Digest]error{}
		if errors.Is(err, image.ErrDamaged) {
			wrong[""], err = err, nil
		}
		if err != nil {
			return nil, 0, err
		}
		for _, d := range list {
			if err := stored.CheckReferrer(ctx, env.Store, manifest.Referrer{Subject: subject, Desc: d}); err != nil {
				wrong[d.Digest] = err
			}
			if ctx.Err() != nil {
				return nil, 0, context.Cause(ctx)
			}
		}
		for _, d := range slices.Sorted(maps.Keys(wrong)) {
			line := fmt.Sprintf("what refers to %s: %v", subject, wrong[d])
			// Another error, such as one of the disk, says nothing about the referrer.
			gone := errors.Is(wrong[d], image.ErrDamaged) || errors.Is(wrong[d], fs.ErrNotExist) || is[*manifest.DamagedError](wrong[d])
			if repair && gone {
				if err := env.Images.RemoveReferrers(ctx, subject, d); err != nil {
					return nil, 0, err
				}
				lines = append(lines, line+": removed from the list")
				continue
			}
			lines, left = append(lines, line), left+1
		}
	}
	return lines, left, nil
}

// isNamed reports whether an image, which was listed, still has its name.
func isNamed(images *image.Images, img image.Image) bool {
	list, err := images.List()
	return err != nil || slices.ContainsFunc(list, func(now image.Image) bool {
		return now.Ref == img.Ref && now.Desc.Digest == img.Desc.Digest
	})
}

// layerCheck inflates the layers of images, each once.
type layerCheck struct {
	store *store.Store
	done  map[layers.ID]error
}

// check returns what is wrong with the diff IDs of an image's layers. What is not
// there, or is damaged, is reported elsewhere.
func (c layerCheck) check(ctx context.Context, chain layers.Chain) (wrong []error) {
	for _, l := range chain {
		err, known := c.done[l.ID]
		if !known && c.store.Blobs.Has(l.Descriptor) {
			err = c.store.VerifyDiffID(ctx, l)
			c.done[l.ID] = err
		}
		if err != nil && !errors.Is(err, folder.ErrCorrupt) {
			wrong = append(wrong, err)
		}
	}
	return wrong
}
