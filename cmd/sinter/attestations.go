package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/builder/attest"
	"github.com/sinter-build/sinter/builder/provenance"
	"github.com/sinter-build/sinter/parser"
)

// attesting makes the attestations of one build.
type attesting struct {
	*building
	wanted attestations
	build  provenance.Build
	// vcs returns what is known of the context's repository. It is asked when the first
	// step runs, since a commit that is made later is not what was built; when nothing
	// runs and nobody wants to know, git is not started.
	vcs func() map[string]string
}

// newAttesting prepares the attestations of g.
func (b *building) newAttesting(ctx context.Context, g *parser.Graph, in *inputs) *attesting {
	dirs := map[string]string{}
	for name, l := range in.locals {
		dirs[name] = l.Dir()
	}
	return &attesting{
		building: b, wanted: b.attests,
		build: provenance.Build{Graph: g, Pins: pins{in}, Started: b.began.UTC()},
		vcs:   sync.OnceValue(func() map[string]string { return b.vcs(ctx, dirs) }),
	}
}

// begin asks git while the first step runs, or at once if it is certain that somebody
// wants to know.
func (a *attesting) begin(c *builder.Config) {
	if a.wanted.provenance == nil {
		return
	}
	ask := func() { go a.vcs() }
	if a.wanted.isDefault {
		c.Began = ask
	} else {
		ask()
	}
}

// of returns what makes the attestations of a target.
func (a *attesting) of(target int) func(context.Context) ([]attest.Attestation, error) {
	var once sync.Mutex
	var list []attest.Attestation
	return func(ctx context.Context) ([]attest.Attestation, error) {
		once.Lock()
		defer once.Unlock()
		if list != nil || a.wanted.provenance == nil {
			return list, nil
		}
		build := a.build
		build.VCS = a.vcs()
		build.Finished = time.Now().UTC()
		data, err := build.Predicate(ctx, target, *a.wanted.provenance)
		if err != nil {
			return nil, err
		}
		list = a.wanted.asked()
		list[0].Predicate = data
		return list, nil
	}
}

// pins asks those who have got the sources.
type pins struct{ *inputs }

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
