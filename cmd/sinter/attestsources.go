package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder"
	"github.com/sinter-build/sinter/parser"
)

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
		b.warn(fmt.Sprintf("provenance does not tell of the repository that the context is in: %v; %s=false does not ask git", err, gitInfoVariable))
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
