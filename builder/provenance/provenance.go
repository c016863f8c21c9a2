// Package provenance says how an image was built, as the predicate of an in-toto
// statement: SLSA provenance with BuildKit's build type, made by BuildKit's own code of
// what a parser.Graph knows. It does not know where the statement is kept
// (builder/attest, builder/export).
//
// No secret gets into it: values of build arguments whose names look like secrets and
// passwords of addresses are hidden wherever they stand, and with mode=min no value of a
// build argument is in it at all.
package provenance

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	slsa02 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v0.2"
	slsa1 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v1"
	"github.com/moby/buildkit/solver/llbsolver/compat"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	"github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sinter-build/sinter/builder/manifest"
	"github.com/sinter-build/sinter/layers/hint"
	"github.com/sinter-build/sinter/parser"
)

// Build is what provenance is made of.
type Build struct {
	Graph *parser.Graph
	Pins  Pins
	// Started and Finished are left out of builds with an epoch, whose provenance is the
	// same every time.
	Started, Finished time.Time
	// VCS is what is known of the repository that the context is in, by BuildKit's keys
	// without their "vcs:": revision, source, localdir:context.
	VCS map[string]string
	// Layers, of each step that layers of the image were made by (by the ID of its node),
	// are those up to it; for mode=max, optional.
	Layers func(context.Context) (map[digest.Digest][]ocispec.Descriptor, error)
}

// Pins knows what the sources of a build were. It is asked after the build.
type Pins interface {
	// Image returns the digest of the manifest or index that the op's reference stands for.
	Image(ctx context.Context, op parser.Op, p ocispec.Platform) (digest.Digest, error)
	// Commit returns the hash of the commit, or of the annotated tag, that was built.
	Commit(ctx context.Context, op parser.Git) (string, error)
	// Digest returns the digest of a download.
	Digest(ctx context.Context, op parser.HTTP) (digest.Digest, error)
}

// PredicateType is the type of the predicates that o asks for.
func (o Options) PredicateType() string {
	if o.Version == types.ProvenanceSLSA02 {
		return slsa02.PredicateSLSAProvenance
	}
	return slsa1.PredicateSLSAProvenance
}

// Predicate returns the provenance of a target as JSON.
func (b Build) Predicate(ctx context.Context, target int, o Options) ([]byte, error) {
	c, err := b.capture(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	p, err := provenance.NewPredicate(c)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	meta := p.RunDetails.Metadata
	if o.Complete && !meta.Completeness.ResolvedDependencies {
		return nil, incomplete(c)
	}
	meta.Reproducible = o.Reproducible
	p.RunDetails.Builder.ID = o.BuilderID
	request := &p.BuildDefinition.ExternalParameters.Request
	if o.Max {
		if err := b.addSteps(ctx, p, c, target); err != nil {
			return nil, fmt.Errorf("provenance: %w", err)
		}
	} else if scrub(request) {
		meta.Completeness.Request = false
	}
	p.BuildDefinition.InternalParameters.DockerfileVersion = parser.FrontendVersion()
	request.CompatibilityVersion = compat.CompatibilityVersionCurrent

	epoch := b.Graph.Targets[target].Epoch
	if epoch == nil {
		meta.StartedOn, meta.FinishedOn = &b.Started, &b.Finished
	} else {
		at := time.Unix(*epoch, 0).UTC()
		meta.StartedOn, meta.FinishedOn = &at, &at
	}
	if meta.InvocationID, err = b.invocation(p, epoch); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	if o.Version == types.ProvenanceSLSA02 {
		return b.encode(p.ConvertToSLSA02())
	}
	return b.encode(p)
}

// invocation is an ID in BuildKit's form. It is the same in every build with the same
// epoch.
func (b Build) invocation(p *types.ProvenancePredicateSLSA1, epoch *int64) (string, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	if epoch == nil {
		data = fmt.Appendf(data, "%d", time.Now().UnixNano())
	}
	sum := digest.SHA256.FromBytes(data)
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(sum.Encoded()))
	return strings.ToLower(text[:25]), nil
}

// buildArg begins the names of those options of the frontend that are build arguments.
const buildArg = "build-arg:"

// capture is what BuildKit notes of a build while it runs.
func (b Build) capture(ctx context.Context, target int) (*provenance.Capture, error) {
	t := b.Graph.Targets[target]
	asked := b.Graph.Asked()
	c := &provenance.Capture{TargetPlatform: platforms.FormatAll(t.Platform)}
	args := provenance.FilterArgs(asked.Options)
	for key, value := range args {
		if name, ok := strings.CutPrefix(key, buildArg); ok {
			args[key] = parser.RedactArg(name, value)
		}
	}
	for key, value := range b.VCS {
		args["vcs:"+key] = value
	}
	c.Request = types.Parameters{Frontend: "dockerfile.v0", Args: args}
	for _, name := range asked.Locals {
		c.AddLocal(types.LocalSource{Name: name})
	}
	for _, n := range slices.Concat(b.Graph.Below(t), asked.Opened) {
		if err := b.note(ctx, c, n); err != nil {
			return nil, err
		}
	}
	for _, i := range b.imagesFor(t.Platform) {
		c.AddImage(i)
	}
	if err := c.OptimizeImageSources(); err != nil {
		return nil, err
	}
	c.Sort()
	return c, nil
}

// note adds what a step brings in.
func (b Build) note(ctx context.Context, c *provenance.Capture, n *parser.Node) error {
	switch op := n.Op.(type) {
	case parser.Image:
		return b.noteImage(ctx, c, n, op.Ref)
	case parser.OCILayout:
		return b.noteImage(ctx, c, n, op.Ref)
	case parser.Local:
		c.AddLocal(types.LocalSource{Name: op.Name})
	case parser.HTTP:
		sum, err := b.Pins.Digest(ctx, op)
		if err != nil {
			return err
		}
		c.AddHTTP(types.HTTPSource{URL: op.URL, Digest: sum})
	case parser.Git:
		commit, err := b.Pins.Commit(ctx, op)
		if err != nil {
			return err
		}
		noteGit(c, op, commit)
	case parser.Exec:
		noteExec(c, op)
	}
	return nil
}

// noteImage adds an image. Most references have their digest.
func (b Build) noteImage(ctx context.Context, c *provenance.Capture, n *parser.Node, ref string) error {
	_, text, _ := strings.Cut(ref, "@")
	sum := digest.Digest(text)
	if sum == "" {
		var err error
		if sum, err = b.Pins.Image(ctx, n.Op, n.Platform); err != nil {
			return err
		}
	}
	_, layout := n.Op.(parser.OCILayout)
	c.AddImage(types.ImageSource{Ref: ref, Platform: &n.Platform, Digest: sum, Local: layout})
	if err := sum.Validate(); err != nil {
		return fmt.Errorf("the digest of image %s: %w", ref, err)
	}
	return nil
}

func noteGit(c *provenance.Capture, op parser.Git, commit string) {
	address := op.FullURL
	if address == "" {
		address = "https://" + op.Remote
	}
	if op.Ref != "" {
		address += "#" + op.Ref
	}
	c.AddGit(types.GitSource{URL: address, Commit: commit})
	for _, id := range []string{op.AuthTokenSecret, op.AuthHeaderSecret} {
		if id != "" {
			c.AddSecret(types.Secret{ID: id, Optional: true})
		}
	}
	if op.MountSSHSock != "" {
		c.AddSSH(types.SSH{ID: op.MountSSHSock, Optional: true})
	}
}

func noteExec(c *provenance.Capture, op parser.Exec) {
	for _, m := range op.Mounts {
		switch m.Type {
		case parser.MountSecret:
			c.AddSecret(types.Secret{ID: m.SecretID, Optional: m.Optional})
		case parser.MountSSH:
			c.AddSSH(types.SSH{ID: m.SecretID, Optional: m.Optional})
		}
	}
	for _, s := range op.SecretEnv {
		c.AddSecret(types.Secret{ID: s.ID, Optional: s.Optional})
	}
	c.NetworkAccess = c.NetworkAccess || op.Network != parser.NetNone
}

// imagesFor are the images that the frontend asked for, without those that were asked for
// other targets' platforms: an image that was asked for every platform counts for its own.
func (b Build) imagesFor(p ocispec.Platform) []types.ImageSource {
	images := b.Graph.Asked().Images
	everywhere := func(ref string) bool {
		for _, t := range b.Graph.Targets {
			fits := platforms.NewMatcher(t.Platform)
			if !slices.ContainsFunc(images, func(i parser.AskedImage) bool { return i.Ref == ref && fits.Match(i.Platform) }) {
				return false
			}
		}
		return true
	}
	var list []types.ImageSource
	for _, i := range images {
		if everywhere(i.Ref) && (i.Platform.OS != p.OS || i.Platform.Architecture != p.Architecture) {
			continue
		}
		list = append(list, types.ImageSource{Ref: i.Ref, Platform: &i.Platform, Digest: i.Digest, Local: i.Layout})
	}
	return list
}

// incomplete is the error for materials that have no digest.
func incomplete(c *provenance.Capture) error {
	var names []string
	for _, l := range c.Sources.Local {
		names = append(names, l.Name)
	}
	return hint.Add(
		fmt.Errorf("complete-materials=true: the materials of the build are incomplete, since directories of this machine have no digest: %s", strings.Join(names, ", ")),
		"build from a repository: sinter build https://HOST/PROJECT.git#REF")
}

// scrub removes what mode=min does not tell, and reports whether there was anything that
// decides the result.
func scrub(req *types.Parameters) (removed bool) {
	before := len(req.Args)
	maps.DeleteFunc(req.Args, func(key, _ string) bool {
		return strings.HasPrefix(key, buildArg) || strings.HasPrefix(key, "label:")
	})
	req.Secrets, req.SSH = nil, nil
	return len(req.Args) < before
}

// encode writes a predicate without secrets.
func (b Build) encode(predicate any) ([]byte, error) {
	data, err := json.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	data, err = json.Marshal(hide(v, b.redact))
	if err == nil && len(data) > manifest.MaxStatement {
		err = hint.Add(fmt.Errorf("the provenance has %d bytes, and must not have more than %d", len(data), manifest.MaxStatement), "use mode=min")
	}
	return data, err
}
