package parser

import (
	"cmp"
	"maps"
	"sync"

	"github.com/moby/buildkit/client/llb"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Asked is what the frontend was asked, and which images it asked for: what provenance
// tells beside the graph.
type Asked struct {
	// Options are the frontend's, as docker buildx sends them to dockerfile.v0. They
	// hold values of build arguments.
	Options map[string]string
	// Images are those whose configs were looked at, each once, in no order.
	Images []AskedImage
	// Locals are the directories that the Dockerfile and its ignore rules were looked for
	// in.
	Locals []string
}

// AskedImage is an image that the frontend asked for.
type AskedImage struct {
	// Ref is what it was found under, Digest that of its manifest or index.
	Ref      string
	Digest   digest.Digest
	Platform ocispec.Platform
	// Layout says that it is from an OCI layout and not from a registry.
	Layout bool
}

// FrontendVersion is the version of the Dockerfile frontend.
func FrontendVersion() string { return dockerfileversion.Version() }

// Asked returns what the frontend was asked; nothing for a graph that was not parsed.
func (g *Graph) Asked() Asked { return g.asked }

// Definition returns BuildKit's definition of a target (solver/pb.Definition, serialized);
// nil for an image without any layer.
func (t Target) Definition() ([]byte, error) {
	if t.definition == nil {
		return nil, nil
	}
	return t.definition.ToPB().MarshalVT()
}

// definition is BuildKit's definition of a target, behind a name of ours.
type definition = llb.Definition

// askedImages collects the images that one or more frontends ask for.
type askedImages struct {
	mu   sync.Mutex
	list []AskedImage
}

func (a *askedImages) add(meta ImageMeta, p *ocispec.Platform, layout bool) {
	if p == nil || meta.Ref == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	image := AskedImage{Ref: meta.Ref, Digest: meta.Digest, Platform: *p, Layout: layout}
	for _, known := range a.list {
		if known.Ref == image.Ref && known.Layout == layout && known.Digest == image.Digest &&
			known.Platform.OS == p.OS && known.Platform.Architecture == p.Architecture && known.Platform.Variant == p.Variant {
			return
		}
	}
	a.list = append(a.list, image)
}

// asked is what f was asked for req.
func (f *frontend) asked(req Request) (Asked, error) {
	opts, err := options(req)
	if err != nil {
		return Asked{}, err
	}
	// buildx names the Dockerfile also where nobody has.
	opts[filenameOpt] = cmp.Or(f.opts[filenameOpt], "Dockerfile")
	f.found.mu.Lock()
	defer f.found.mu.Unlock()
	a := Asked{Options: maps.Clone(opts), Images: f.found.list}
	if req.Context == "" {
		a.Locals = append(a.Locals, "context")
	}
	if req.Context == "" || req.LocalDockerfile {
		a.Locals = append(a.Locals, "dockerfile")
	}
	return a, nil
}
