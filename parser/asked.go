package parser

import (
	"cmp"
	"slices"
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
	// Images are those whose configs were looked at, each once, by name and platform.
	Images []AskedImage
	// Opened are the steps that yield what the Dockerfile was read from, if that is a
	// repository or a download. Targets that copy nothing from it do not depend on them.
	Opened []*Node
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

// findings are what one or more frontends ask for, at once.
type findings struct {
	mu     sync.Mutex
	images []AskedImage
	opened []*Node
}

func (f *findings) addImage(meta ImageMeta, p *ocispec.Platform, layout bool) {
	if p == nil || meta.Ref == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	image := AskedImage{Ref: meta.Ref, Digest: meta.Digest, Platform: *p, Layout: layout}
	if !slices.ContainsFunc(f.images, func(known AskedImage) bool { return known.compare(image) == 0 }) {
		f.images = append(f.images, image)
	}
}

// addOpened adds the steps of g, whose files the frontend has looked at.
func (f *findings) addOpened(g *Graph) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range g.Nodes {
		if !slices.ContainsFunc(f.opened, func(known *Node) bool { return known.ID == n.ID }) {
			f.opened = append(f.opened, n)
		}
	}
}

// compare orders images: frontends ask for several platforms' at once.
func (i AskedImage) compare(j AskedImage) int {
	layout := func(i AskedImage) int {
		if i.Layout {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(i.Ref, j.Ref), cmp.Compare(i.Platform.OS, j.Platform.OS),
		cmp.Compare(i.Platform.Architecture, j.Platform.Architecture), cmp.Compare(i.Platform.Variant, j.Platform.Variant),
		cmp.Compare(i.Digest, j.Digest), layout(i)-layout(j),
	)
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
	a := Asked{
		Options: opts,
		Images:  slices.SortedFunc(slices.Values(f.found.images), AskedImage.compare),
		Opened:  slices.SortedFunc(slices.Values(f.found.opened), func(a, b *Node) int { return cmp.Compare(a.ID, b.ID) }),
	}
	if req.Context == "" {
		a.Locals = append(a.Locals, "context")
	}
	if req.Context == "" || req.LocalDockerfile {
		a.Locals = append(a.Locals, "dockerfile")
	}
	return a, nil
}
