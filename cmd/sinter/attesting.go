package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/provenance"
	"github.com/sinter-build/sinter/layers"
	"github.com/sinter-build/sinter/layers/store"
	"github.com/sinter-build/sinter/parser"
)

// attesting makes the attestations of one build.
type attesting struct {
	*building
	store  *store.Store
	wanted attestations
	build  provenance.Build
	// vcs returns what is known of the context's repository. It is asked when the first
	// step runs, since a commit that is made later is not what was built; when nothing
	// runs and nobody wants to know, git is not started.
	vcs      func() map[string]string
	finished func() time.Time
}

// newAttesting prepares the attestations of g.
func (b *building) newAttesting(ctx context.Context, s *store.Store, g *parser.Graph, in *inputs, images builder.Images) *attesting {
	dirs := map[string]string{}
	for name, l := range in.locals {
		dirs[name] = l.Dir()
	}
	return &attesting{
		building: b, store: s, wanted: b.attests,
		build: provenance.Build{Graph: g, Pins: pins{in, images}, Started: b.began.UTC()},
		vcs:   sync.OnceValue(func() map[string]string { return b.vcs(ctx, dirs) }),

		finished: sync.OnceValue(func() time.Time { return time.Now().UTC() }),
	}
}

// begin asks git while the first step runs, or at once if it is certain that somebody
// wants to know. The function that it returns waits for the answer.
func (a *attesting) begin(c *builder.Config) (wait func()) {
	var asking sync.WaitGroup
	ask := func() { asking.Go(func() { a.vcs() }) }
	switch {
	case a.wanted.provenance == nil:
	case a.wanted.isDefault:
		c.Began = ask
	default:
		ask()
	}
	return asking.Wait
}

// of returns what makes the attestations of a target. What differs between two outputs of
// the same build is which layers the image has, and of which media types.
func (a *attesting) of(target int, r builder.TargetResult) func(context.Context, layers.Chain) ([]attest.Attestation, error) {
	var mu sync.Mutex
	made := map[string][]attest.Attestation{}
	return func(ctx context.Context, image layers.Chain) ([]attest.Attestation, error) {
		mu.Lock()
		defer mu.Unlock()
		var key strings.Builder
		for _, l := range image {
			fmt.Fprintln(&key, l.Descriptor.MediaType, l.Descriptor.Digest)
		}
		if list, ok := made[key.String()]; ok {
			return list, nil
		}
		list, err := a.packages(ctx, r, image)
		if err != nil {
			return nil, err
		}
		if a.wanted.provenance == nil {
			made[key.String()] = list
			return list, nil
		}
		build := a.build
		build.VCS, build.Finished = a.vcs(), a.finished()
		build.Layers = func(ctx context.Context) (map[digest.Digest][]ocispec.Descriptor, error) {
			return stepLayers(ctx, r, image)
		}
		data, err := build.Predicate(ctx, target, *a.wanted.provenance)
		switch {
		case err == nil:
			list = append(list, a.wanted.asProvenance(data))
		case !a.wanted.isDefault || ctx.Err() != nil:
			return nil, err
		default:
			a.warn(fmt.Sprintf("the image has no provenance: %v", err))
		}
		made[key.String()] = list
		return list, nil
	}
}

// packages are the lists of the packages in the image, which has these layers.
func (a *attesting) packages(ctx context.Context, r builder.TargetResult, image layers.Chain) ([]attest.Attestation, error) {
	if a.wanted.sbom == nil {
		return nil, nil
	}
	files, err := r.Statements(ctx, a.store)
	if err != nil {
		return nil, err
	}
	if r.Scan != nil && len(files) == 0 {
		a.warn(fmt.Sprintf("the scanner %s has written no list of packages: the image has none", a.wanted.sbom.Generator))
	}
	list, err := attest.Unbundle(files, parser.CoreScan, a.wanted.sbom.predicateType())
	if err != nil {
		return nil, err
	}
	view, err := a.store.View(ctx, r.Chain)
	if err != nil {
		return nil, err
	}
	kept := keptLayers(r.Chain, len(image))
	s := attest.Supplement{Rename: a.wanted.sbom.Generator == "", Tool: "sinter-" + version(), Redact: parser.Redact, LayerOf: func(path string) digest.Digest {
		_, layer, ok := view.Lookup(path)
		if !ok || layer >= len(r.Chain) || kept == nil || kept[layer+1] == kept[layer] {
			return ""
		}
		return image[kept[layer]].Descriptor.Digest
	}}
	if r.Target.Epoch != nil {
		at := time.Unix(*r.Target.Epoch, 0)
		s.Created = &at
	}
	for i := range list {
		list[i].Where = a.wanted.sbom.where
		if list[i], err = s.Add(list[i], parser.CoreScan); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// stepLayers are the layers that steps made, as they are described in an image with these
// layers.
func stepLayers(ctx context.Context, r builder.TargetResult, image layers.Chain) (map[digest.Digest][]ocispec.Descriptor, error) {
	own, images, err := r.StepLayers(ctx)
	if err != nil {
		return nil, err
	}
	out := map[digest.Digest][]ocispec.Descriptor{}
	for step, chain := range images {
		out[step] = descriptors(chain)
	}
	kept := keptLayers(r.Chain, len(image))
	for step, span := range own {
		if len(kept) == len(r.Chain)+1 {
			out[step] = descriptors(image[kept[span.From]:kept[span.To]])
		}
	}
	return out, nil
}

// keptLayers returns for each n how many of the first n layers of a chain are among the
// inImage layers of an image, which leaves out empty ones; nil if the image has others.
func keptLayers(chain layers.Chain, inImage int) []int {
	drop := len(chain) - inImage
	// Those of the base image stay, which are the lowest.
	dropped := make([]bool, len(chain))
	for i := len(chain) - 1; i >= 0 && drop > 0; i-- {
		if chain[i].ID == layers.EmptyID {
			dropped[i] = true
			drop--
		}
	}
	if drop != 0 {
		return nil
	}
	kept := make([]int, 1, len(chain)+1)
	for _, gone := range dropped {
		n := kept[len(kept)-1]
		if !gone {
			n++
		}
		kept = append(kept, n)
	}
	return kept
}

// descriptors are those of layers, as provenance has them.
func descriptors(chain layers.Chain) []ocispec.Descriptor {
	list := make([]ocispec.Descriptor, 0, len(chain))
	for _, l := range chain {
		list = append(list, ocispec.Descriptor{MediaType: l.Descriptor.MediaType, Digest: l.Descriptor.Digest, Size: l.Descriptor.Size})
	}
	return list
}
