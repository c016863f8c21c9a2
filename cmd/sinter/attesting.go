package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
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
	s := attest.Supplement{Rename: a.wanted.sbom.Generator == "", Tool: "sinter-" + version(), LayerOf: func(path string) digest.Digest {
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
	for step, n := range own {
		if len(kept) == len(r.Chain)+1 {
			out[step] = descriptors(image[:kept[n]])
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

// metadataVariable says how much --metadata-file tells of how the image was built.
const metadataVariable = "BUILDX_METADATA_PROVENANCE"

// metadata is what --metadata-file tells of how the targets were built, as buildx writes
// it: always provenance of version 0.2, of which min leaves the steps out and what is known
// of the run.
func (a *attesting) metadata(ctx context.Context) (map[string]json.RawMessage, error) {
	mode := os.Getenv(metadataVariable)
	if on, err := strconv.ParseBool(mode); mode == "disabled" || err == nil && !on {
		return nil, nil
	}
	build := a.build
	build.Finished = a.finished()
	if mode == "max" {
		build.VCS = a.vcs()
	}
	options := provenance.Options{Max: true, Version: "v0.2"}
	if o := a.wanted.provenance; o != nil {
		options.BuilderID = o.BuilderID
	}
	out := map[string]json.RawMessage{}
	for i, t := range build.Graph.Targets {
		data, err := build.Predicate(ctx, i, options)
		if err != nil && ctx.Err() == nil {
			// The image is where it belongs by now.
			a.warn(fmt.Sprintf("the metadata file does not tell how the image was built: %v", err))
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if mode != "max" {
			fields := map[string]json.RawMessage{}
			if err := json.Unmarshal(data, &fields); err != nil {
				return nil, err
			}
			delete(fields, "buildConfig")
			delete(fields, "metadata")
			if data, err = json.Marshal(fields); err != nil {
				return nil, err
			}
		}
		key := "buildx.build.provenance"
		if a.assembly.Index { // buildx has results by platform then, even of one
			key += "/" + platforms.FormatAll(t.Platform)
		}
		out[key] = data
	}
	return out, nil
}

// pins asks those who have got the sources.
type pins struct {
	*inputs
	images builder.Images
}

// Image implements provenance.Pins.
func (p pins) Image(ctx context.Context, op parser.Op, platform ocispec.Platform) (digest.Digest, error) {
	name, err := p.images.Named(ctx, op, platform)
	_, text, _ := strings.Cut(name, "@")
	return digest.Digest(text), err
}

// Commit implements provenance.Pins.
func (p pins) Commit(ctx context.Context, op parser.Git) (string, error) { return p.git.Pin(ctx, op) }

// Digest implements provenance.Pins.
func (p pins) Digest(ctx context.Context, op parser.HTTP) (digest.Digest, error) {
	sum, _, err := p.web.Modified(ctx, op)
	return sum, err
}

// gitInfoVariable turns off that provenance tells of the context's repository.
const gitInfoVariable = "BUILDX_GIT_INFO"

// vcs is what provenance tells of the repository that the context is in, by the keys
// that buildx uses without their "vcs:".
func (b *building) vcs(ctx context.Context, dirs map[string]string) map[string]string {
	if on, err := strconv.ParseBool(os.Getenv(gitInfoVariable)); err == nil && !on {
		return nil
	}
	if dirs["context"] == "" {
		return nil
	}
	w, err := askGit(ctx, dirs["context"])
	if err != nil && ctx.Err() == nil {
		b.warn(fmt.Sprintf("provenance does not tell of the repository that the context is in: %v", err))
	}
	if w == nil {
		return nil
	}
	known := map[string]string{}
	if w.commit != "" {
		known["revision"] = w.commit
	}
	if w.remote != "" {
		known["source"] = w.remote
	}
	for name, dir := range dirs {
		if rel, err := filepath.Rel(w.root, dir); err == nil && filepath.IsLocal(rel) {
			known["localdir:"+name] = rel
		}
	}
	return known
}
