// Package parser turns a Dockerfile and what was asked of it into a Graph: the
// steps that the wanted images need, each once, in an order in which they can
// be done. BuildKit's own frontend reads the Dockerfile, inside this process,
// so that it means what it means in Docker; nothing of BuildKit's is in what
// the package returns. It runs no step and reads no file but through a
// Resolver.
package parser

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Parse reads the Dockerfile and makes the graph. Findings of the build checks
// go to warn, one at a time; warn may be nil. An error that concerns the
// Dockerfile or the request is, or wraps, an *Error. When ctx ends, the work on the
// Dockerfile may go on in a goroutine, which asks r nothing any more; it may still warn.
func Parse(ctx context.Context, req Request, r Resolver, warn func(Warning)) (*Graph, error) {
	return untilEnd(ctx, r, func(r Resolver) (*Graph, error) { return parse(ctx, req, r, warn) })
}

func parse(ctx context.Context, req Request, r Resolver, warn func(Warning)) (*Graph, error) {
	f, err := prepare(ctx, req, r, warn)
	if err != nil {
		return nil, err
	}
	e, err := f.open(ctx)
	if err != nil {
		return nil, f.problem(ctx, e, err)
	}
	images, err := f.convertAll(ctx, e)
	if err != nil {
		return nil, f.problem(ctx, e, err)
	}
	if err := f.unreadIgnore(); err != nil {
		return nil, err
	}
	f.checkFilter(e, req.NoCacheFilter)
	f.warnOfBrackets(e)
	g, err := f.graph(ctx, e, images, req.SBOM)
	if err != nil {
		return nil, err
	}
	if g.asked, err = f.asked(req); err != nil {
		return nil, err
	}
	g.args, g.redact = sync.OnceValue(e.declaredArgs), Redactor(req.BuildArgs)
	for _, n := range g.Nodes {
		n.Written = onOneLine(n.Name)
		n.Name, n.GroupName = onOneLine(g.Redact(n.Name)), onOneLine(g.Redact(n.GroupName))
	}
	for i := range g.Files {
		if g.Files[i].Name == e.source.Filename {
			g.Files[i].Name = e.shown
		}
	}
	f.warnOfPasswords(req, g)
	return g, nil
}

// converted is the frontend's answer for one platform; a nil platform is the
// one that the answer itself names.
type converted struct {
	platform   *ocispec.Platform
	result     *dockerfile2llb.Result
	definition *llb.Definition
}

// convertAll converts the Dockerfile for every platform at once, since most of
// the time goes into asking for base images. Findings are told for the first
// only: they are the same for all.
func (f *frontend) convertAll(ctx context.Context, first *entry) ([]converted, error) {
	targets := []*ocispec.Platform{nil}
	if ps := first.client.TargetPlatforms; len(ps) > 0 {
		targets = nil
		for _, p := range ps {
			targets = append(targets, &p)
		}
	}
	images := make([]converted, len(targets))
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range targets {
		group.Go(func() (err error) {
			e, warn := first, f.warner(first)
			if i > 0 {
				if e, err = f.open(ctx); err != nil {
					return err
				}
				warn = nil
			}
			images[i], err = f.convert(ctx, e, p, warn)
			return err
		})
	}
	return images, group.Wait()
}

func (f *frontend) convert(ctx context.Context, e *entry, p *ocispec.Platform, warn linter.LintWarnFunc) (converted, error) {
	opt, err := f.convertOpt(e, p, false, warn)
	if err != nil {
		return converted{}, err
	}
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, e.text, opt)
	if err != nil {
		return converted{}, err
	}
	if err := checkEpoch(res.Epoch); err != nil {
		return converted{}, err
	}
	def, err := res.State.Marshal(ctx)
	if err != nil {
		return converted{}, fmt.Errorf("failed to marshal LLB definition: %w", err)
	}
	return converted{platform: p, result: res, definition: def}, nil
}

// checkEpoch refuses an epoch that an image's config cannot tell.
func checkEpoch(epoch *time.Time) error {
	if epoch == nil || epoch.Year() >= 0 && epoch.Year() <= 9999 {
		return nil
	}
	return fmt.Errorf("invalid SOURCE_DATE_EPOCH: %d is not between the years 0 and 9999", epoch.Unix())
}

func (f *frontend) graph(ctx context.Context, e *entry, images []converted, sbom *SBOM) (*Graph, error) {
	t := newTranslation(f.policy)
	if len(images) > 0 {
		t.epoch = images[0].result.Epoch // all have the same
	}
	targets := make([]Target, len(images))
	for i, img := range images {
		var err error
		if targets[i], err = t.target(img); err != nil {
			return nil, fmt.Errorf("translating the frontend's answer: %w", err)
		}
	}
	if sbom != nil {
		if err := f.addScans(ctx, t, images, targets, sbom); err != nil {
			return nil, err
		}
	}
	if err := t.problem(e); err != nil {
		return nil, err
	}
	g := t.graph()
	g.Targets = targets
	return g, nil
}

func (t *translation) target(img converted) (Target, error) {
	end, err := t.add(img.definition.ToPB())
	if err != nil {
		return Target{}, err
	}
	res := img.result
	redactHistory(res)
	target := Target{Platform: platform(img), Node: end.Node, Output: end.Output, definition: img.definition}
	if target.Config, err = json.Marshal(res.Image); err != nil {
		return Target{}, fmt.Errorf("the image config: %w", err)
	}
	if res.BaseImage != nil {
		if target.BaseConfig, err = json.Marshal(res.BaseImage); err != nil {
			return Target{}, fmt.Errorf("the base image's config: %w", err)
		}
	}
	if res.Epoch != nil {
		seconds := res.Epoch.Unix()
		target.Epoch = &seconds
	}
	return target, nil
}

// platform is the one that was asked for, else the image's own. Windows images
// keep the OS version of their base, which decides where they run.
func platform(img converted) ocispec.Platform {
	own := img.result.Image.Platform
	if img.platform == nil {
		return platforms.Normalize(own)
	}
	p := platforms.Normalize(*img.platform)
	if p.OS == "windows" && own.OS == p.OS {
		if p.OSVersion == "" {
			p.OSVersion = own.OSVersion
		}
		if p.OSFeatures == nil {
			p.OSFeatures = own.OSFeatures
		}
	}
	return p
}
