package parser

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// frontend is what BuildKit's Dockerfile frontend sees of the world: it stands
// in for a BuildKit daemon, solves nothing, and remembers what was asked. It
// serves one call of the frontend.
type frontend struct {
	opts     map[string]string
	platform ocispec.Platform
	resolver Resolver

	warnMu   sync.Mutex
	warn     func(Warning)
	warnings []Warning

	images memo[ImageMeta]
	files  memo[[]byte]

	// forwarded is the error of the frontend that # syntax= named, as it was
	// before the outer one added the position of that line to it.
	forwarded error
}

// session stands for the client in what the frontend makes. It is the same in
// every build, so that equal Dockerfiles make equal graphs.
const session = "sinter"

func newFrontend(req Request, r Resolver, warn func(Warning)) (*frontend, error) {
	opts, err := options(req)
	if err != nil {
		return nil, err
	}
	p := req.BuildPlatform
	if p.OS == "" && p.Architecture == "" {
		p = platforms.DefaultSpec()
	}
	return &frontend{opts: opts, platform: platforms.Normalize(p), resolver: r, warn: warn}, nil
}

// run runs the frontend.
func (f *frontend) run(ctx context.Context) (*client.Result, error) {
	res, err := builder.Build(ctx, f)
	if f.forwarded != nil {
		err = f.forwarded
	}
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return res, nil
}

// BuildOpts implements client.Client. All that BuildKit can do is said to be
// supported, so that the frontend takes its newest paths.
func (f *frontend) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts:      f.opts,
		SessionID: session,
		Product:   "sinter",
		Workers:   []client.WorkerInfo{{Platforms: []ocispec.Platform{f.platform}}},
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

// Solve implements client.Client: nothing is run, the definition is kept.
func (f *frontend) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	switch req.Frontend {
	case "":
		res := client.NewResult()
		res.SetRef(&solved{f, req.Definition})
		return res, nil
	case "gateway.v0":
		return f.forward(ctx, req.FrontendOpt["source"], req.FrontendOpt["cmdline"])
	}
	return nil, fmt.Errorf("frontend %s: %w", req.Frontend, errors.ErrUnsupported)
}

// forward stands for the frontend image that # syntax= names.
func (f *frontend) forward(ctx context.Context, ref, cmdline string) (*client.Result, error) {
	if !isDockerfileFrontend(ref) {
		return nil, &Error{
			Msg: fmt.Sprintf("the frontend %s is not supported", ref),
			Hint: "Docker's own frontend is built in, whatever version docker/dockerfile is asked for; " +
				"remove the syntax line, or use docker/dockerfile:1",
			Err: errors.ErrUnsupported,
		}
	}
	f.opts["cmdline"] = cmdline
	res, err := builder.Build(ctx, f)
	f.forwarded = err
	return res, err
}

// isDockerfileFrontend reports whether ref names Docker's Dockerfile frontend,
// in any version, from any registry that mirrors it.
func isDockerfileFrontend(ref string) bool {
	if ref == "" {
		return true
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	p := "/" + reference.Path(named)
	return strings.HasSuffix(p, "/docker/dockerfile") || strings.HasSuffix(p, "/docker/dockerfile-upstream")
}

// ResolveSourceMetadata implements sourceresolver.MetaResolver.
func (f *frontend) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	scheme, ref, _ := strings.Cut(op.Identifier, "://")
	var meta ImageMeta
	var err error
	switch scheme {
	case "docker-image":
		meta, err = f.image(ctx, ref, opt.ImageOpt)
	case "oci-layout":
		meta, err = f.layout(ctx, ref, opt.OCILayoutOpt)
	case "local":
		return &sourceresolver.MetaResponse{Op: op}, nil
	default:
		return nil, &Error{
			Msg:  fmt.Sprintf("the time of %s is not known before it has been fetched", op.Identifier),
			Hint: "give SOURCE_DATE_EPOCH in seconds since 1970",
			Err:  errors.ErrUnsupported,
		}
	}
	if err != nil {
		return nil, err
	}
	found := op.CloneVT()
	if meta.Ref != "" {
		found.Identifier = scheme + "://" + meta.Ref
	}
	return &sourceresolver.MetaResponse{
		Op:    found,
		Image: &sourceresolver.ResolveImageResponse{Digest: meta.Digest, Config: meta.Config},
	}, nil
}

func (f *frontend) image(ctx context.Context, ref string, opt *sourceresolver.ResolveImageOpt) (ImageMeta, error) {
	if opt == nil {
		opt = &sourceresolver.ResolveImageOpt{}
	}
	pull := opt.ResolveMode == pb.AttrImageResolveModeForcePull
	p := f.orBuildPlatform(opt.Platform)
	key := fmt.Sprintf("image %s %s %t", ref, platforms.FormatAll(*p), pull)
	return f.images.get(key, func() (ImageMeta, error) {
		return f.resolver.ResolveImage(ctx, ref, p, pull)
	})
}

func (f *frontend) layout(ctx context.Context, ref string, opt *sourceresolver.ResolveOCILayoutOpt) (ImageMeta, error) {
	if opt == nil {
		opt = &sourceresolver.ResolveOCILayoutOpt{}
	}
	store, p := opt.Store.StoreID, f.orBuildPlatform(opt.Platform)
	key := fmt.Sprintf("layout %s %s %s", store, ref, platforms.FormatAll(*p))
	return f.images.get(key, func() (ImageMeta, error) {
		return f.resolver.ResolveLayout(ctx, store, ref, p)
	})
}

func (f *frontend) orBuildPlatform(p *ocispec.Platform) *ocispec.Platform {
	if p == nil {
		p = &f.platform
	}
	clone := platforms.Normalize(*p)
	return &clone
}

// ResolveImageConfig implements client.Client.
func (f *frontend) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return sourceresolver.NewImageMetaResolver(f).ResolveImageConfig(ctx, ref, opt)
}

// Inputs implements client.Client: there is no frontend before this one.
func (f *frontend) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// NewContainer implements client.Client. The Dockerfile frontend starts none
// (but for SBOM scanners, which are not asked for).
func (f *frontend) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, fmt.Errorf("a container for the frontend: %w", errors.ErrUnsupported)
}

// Warn implements client.Client.
func (f *frontend) Warn(_ context.Context, _ digest.Digest, msg string, opts client.WarnOpts) error {
	w := Warning{Short: msg, URL: opts.URL, Level: opts.Level, Ranges: ranges(opts.Range, 0)}
	for _, d := range opts.Detail {
		w.Detail = append(w.Detail, string(d))
	}
	if opts.SourceInfo != nil {
		w.Source = &SourceFile{Name: opts.SourceInfo.Filename, Data: opts.SourceInfo.Data}
	}
	f.warnMu.Lock()
	defer f.warnMu.Unlock()
	f.warnings = append(f.warnings, w)
	if f.warn != nil {
		f.warn(w)
	}
	return nil
}
