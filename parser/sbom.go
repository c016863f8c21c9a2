package parser

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SBOM asks for a list of the packages in the image.
type SBOM struct {
	// Generator is an image with a scanner that follows BuildKit's protocol
	// (docs/attestations/sbom-protocol.md); "" is the scanner of the builder.
	Generator string
	// Parameters are given to the generator, as variables BUILDKIT_SCAN_NAME.
	Parameters map[string]string
}

// CoreScan is the name of the scan of the image itself. Those of stages and of the context
// that are asked for too are called ExtraScan and their name.
const (
	CoreScan  = "sbom"
	ExtraScan = CoreScan + "-"
)

// ScanDir is where the statements of a scan are in what it yields.
const ScanDir = "run/out"

// Scan finds packages in each of its inputs, of which Names has the names, and writes a
// statement for each into the directory ScanDir.
type Scan struct {
	Names []string
	// Architecture is that of the image.
	Architecture string
}

func (Scan) op() {}

// scanned is what is to be scanned for one target.
type scanned struct {
	name  string
	state llb.State
}

// scans lists what is to be scanned for a target: the image, then what else the Dockerfile
// asks for with BUILDKIT_SBOM_SCAN_STAGE and BUILDKIT_SBOM_SCAN_CONTEXT.
func scans(res *dockerfile2llb.Result) []scanned {
	list := []scanned{{CoreScan, res.SBOM.Core}}
	for _, name := range slices.Sorted(maps.Keys(res.SBOM.Extras)) {
		list = append(list, scanned{ExtraScan + name, res.SBOM.Extras[name]})
	}
	return list
}

// addScans adds to t what scans the targets.
func (f *frontend) addScans(ctx context.Context, t *translation, images []converted, targets []Target, want *SBOM) error {
	for i, img := range images {
		id := platforms.FormatAll(targets[i].Platform)
		var err error
		if want.Generator == "" {
			targets[i].Scan, err = t.addScan(ctx, img.result, id, targets[i].Platform)
		} else {
			targets[i].Scan, err = f.addGenerator(ctx, t, img.result, id, want)
		}
		if err != nil {
			return fmt.Errorf("the list of packages of %s: %w", id, err)
		}
	}
	return nil
}

// addScan adds a scan by the builder, unless another platform has the same.
func (t *translation) addScan(ctx context.Context, res *dockerfile2llb.Result, id string, p ocispec.Platform) (Input, error) {
	op := Scan{Architecture: p.Architecture}
	n := &Node{Name: fmt.Sprintf("[%s] generating sbom", id), NoCache: res.IsIgnoreCache}
	said := op.Architecture
	for _, s := range scans(res) {
		def, err := s.state.Marshal(ctx)
		if err != nil {
			return Input{}, err
		}
		in, err := t.add(def.ToPB())
		if err != nil {
			return Input{}, err
		}
		if in.Node == nil { // nothing is in it
			continue
		}
		op.Names = append(op.Names, s.name)
		n.Inputs = append(n.Inputs, in)
		said += fmt.Sprintf("\n%s %s %d", s.name, in.Node.ID, in.Output)
	}
	if len(n.Inputs) == 0 {
		return Input{}, nil
	}
	n.Op, n.ID = op, digest.FromString("scan "+said)
	if known := t.byID[n.ID]; known != nil {
		return Input{Node: known}, nil
	}
	t.byID[n.ID] = n
	t.nodes = append(t.nodes, n)
	return Input{Node: n}, nil
}

// Where BuildKit's scanners find what they read and write.
const (
	scanSource = "/run/src/"
	scanOutput = "/" + ScanDir + "/"
)

// addGenerator adds a scan by an image, as BuildKit runs it (frontend/attestations/sbom).
// Mounts have an order, so that the step is the same in every build; what the scanner writes
// is in its root, in an empty directory, and not in a mount of its own.
func (f *frontend) addGenerator(ctx context.Context, t *translation, res *dockerfile2llb.Result, id string, want *SBOM) (Input, error) {
	named, err := reference.ParseNormalizedNamed(want.Generator)
	if err != nil {
		return Input{}, fmt.Errorf("generator %q: %w", want.Generator, err)
	}
	ref, _, data, err := f.ResolveImageConfig(ctx, reference.TagNameOnly(named).String(), sourceresolver.Opt{
		ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: f.opts["image-resolve-mode"], Platform: &f.platform},
	})
	if err != nil {
		return Input{}, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return Input{}, fmt.Errorf("the config of generator %s: %w", ref, err)
	}
	args := append(slices.Clone(config.Config.Entrypoint), config.Config.Cmd...)
	if len(args) == 0 {
		return Input{}, fmt.Errorf("generator %s has neither ENTRYPOINT nor CMD", ref)
	}
	list := scans(res)
	env := append(slices.Clone(config.Config.Env), "BUILDKIT_SCAN_DESTINATION="+scanOutput, "BUILDKIT_SCAN_SOURCE="+path.Join(scanSource, "core", CoreScan))
	if len(list) > 1 {
		env = append(env, "BUILDKIT_SCAN_SOURCE_EXTRAS="+path.Join(scanSource, "extras/"))
	}
	for _, key := range slices.Sorted(maps.Keys(want.Parameters)) {
		env = append(env, "BUILDKIT_SCAN_"+key+"="+want.Parameters[key])
	}
	opts := []llb.RunOption{
		llb.WithCustomName(fmt.Sprintf("[%s] generating sbom using %s", id, ref)),
		llb.Dir(config.Config.WorkingDir), llb.Args(args),
	}
	if res.IsIgnoreCache {
		opts = append(opts, llb.IgnoreCache)
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		opts = append(opts, llb.AddEnv(name, value))
	}
	empty := llb.Rm(scanOutput, llb.WithAllowNotFound(true)).Mkdir(scanOutput, 0o755, llb.WithParents(true))
	run := llb.Image(ref, llb.Platform(f.platform)).
		File(empty, llb.WithCustomName(fmt.Sprintf("[%s] preparing %s", id, ref))).Run(opts...)
	run.AddMount("/tmp", llb.Scratch(), llb.Tmpfs())
	for i, s := range list {
		dir := "extras"
		if i == 0 {
			dir = "core"
		}
		run.AddMount(path.Join(scanSource, dir, s.name), s.state, llb.Readonly)
	}
	def, err := run.Root().Marshal(ctx)
	if err != nil {
		return Input{}, err
	}
	return t.add(def.ToPB())
}
