package provenance

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/provenance"
	"github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// addSteps adds what mode=max tells: BuildKit's definition of the target, the Dockerfile,
// and which layers steps made.
func (b Build) addSteps(ctx context.Context, p *types.ProvenancePredicateSLSA1, c *provenance.Capture, target int) error {
	data, err := b.Graph.Targets[target].Definition()
	if err != nil {
		return err
	}
	if data == nil { // an image without any layer has no steps
		return nil
	}
	var def pb.Definition
	if err := def.UnmarshalVT(data); err != nil {
		return fmt.Errorf("reading the definition: %w", err)
	}
	steps, err := provenance.AddBuildConfig(ctx, p, c, definition{def: &def}, false)
	if err != nil {
		return err
	}
	if b.Layers == nil {
		return nil
	}
	chains, err := b.Layers(ctx)
	if err != nil {
		return err
	}
	layers := map[string][][]ocispec.Descriptor{}
	for step, chain := range chains {
		if at, ok := steps[step]; ok && len(chain) > 0 {
			layers[fmt.Sprintf("step%d:0", at)] = [][]ocispec.Descriptor{chain}
		}
	}
	if len(layers) > 0 {
		p.RunDetails.Metadata.BuildKitMetadata.Layers = layers
	}
	return nil
}

// definition stands for a result of BuildKit's solver, of which only the definition is
// read.
type definition struct {
	solver.ResultProxy
	def *pb.Definition
}

// Definition implements solver.ResultProxy.
func (d definition) Definition() *pb.Definition { return d.def }
