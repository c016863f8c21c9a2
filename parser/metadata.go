package parser

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ResolveSourceMetadata implements client.Client.
func (f *frontend) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	op, err := f.policy.apply(op)
	if err != nil {
		return nil, err
	}
	scheme, ref, _ := strings.Cut(op.Identifier, "://")
	var meta ImageMeta
	var platform *ocispec.Platform
	switch scheme {
	case "docker-image":
		meta, platform, err = f.image(ctx, ref, opt.ImageOpt)
	case "oci-layout":
		meta, platform, err = f.layout(ctx, ref, opt.OCILayoutOpt)
	case "local":
		return &sourceresolver.MetaResponse{Op: op}, nil
	case "git", "http", "https":
		return f.remote(ctx, op, opt.LogName)
	default:
		return nil, fmt.Errorf("metadata of %s: %w", op.Identifier, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	f.found.addImage(meta, platform, scheme == "oci-layout")
	found := op.CloneVT()
	if meta.Ref != "" {
		found.Identifier = scheme + "://" + meta.Ref
	}
	return &sourceresolver.MetaResponse{
		Op:    found,
		Image: &sourceresolver.ResolveImageResponse{Digest: meta.Digest, Config: meta.Config},
	}, nil
}

// remote finds out about a repository or a download. name is what the question
// is called in the display.
func (f *frontend) remote(ctx context.Context, op *pb.SourceOp, name string) (*sourceresolver.MetaResponse, error) {
	src, err := source(op)
	if err != nil {
		return nil, err
	}
	res := &sourceresolver.MetaResponse{Op: op}
	switch src := src.(type) {
	case Git:
		meta, err := f.resolver.ResolveGit(ctx, name, src)
		if err != nil {
			return nil, err
		}
		res.Git = &sourceresolver.ResolveGitResponse{CommitObject: meta.Commit}
	case HTTP:
		meta, err := f.resolver.ResolveHTTP(ctx, name, src)
		if err != nil {
			return nil, err
		}
		res.HTTP = &sourceresolver.ResolveHTTPResponse{Digest: meta.Digest}
		// BuildKit does not ask for what a checksum names, so then it
		// does not know either.
		if src.Checksum == "" {
			res.HTTP.LastModified = meta.LastModified
		}
	}
	return res, nil
}

// ResolveImageConfig implements client.Client.
func (f *frontend) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return sourceresolver.NewImageMetaResolver(f).ResolveImageConfig(ctx, ref, opt)
}

func (f *frontend) image(ctx context.Context, ref string, opt *sourceresolver.ResolveImageOpt) (ImageMeta, *ocispec.Platform, error) {
	if opt == nil {
		opt = &sourceresolver.ResolveImageOpt{}
	}
	pull := opt.ResolveMode == pb.AttrImageResolveModeForcePull
	p := f.orBuildPlatform(opt.Platform)
	key := fmt.Sprintf("image %s %s %t", ref, platforms.FormatAll(*p), pull)
	meta, err := f.images.get(key, func() (ImageMeta, error) {
		return f.resolver.ResolveImage(ctx, ref, p, pull)
	})
	return meta, p, err
}

func (f *frontend) layout(ctx context.Context, ref string, opt *sourceresolver.ResolveOCILayoutOpt) (ImageMeta, *ocispec.Platform, error) {
	if opt == nil {
		opt = &sourceresolver.ResolveOCILayoutOpt{}
	}
	store, p := opt.Store.StoreID, f.orBuildPlatform(opt.Platform)
	key := fmt.Sprintf("layout %s %s %s", store, ref, platforms.FormatAll(*p))
	meta, err := f.images.get(key, func() (ImageMeta, error) {
		return f.resolver.ResolveLayout(ctx, store, ref, p)
	})
	return meta, p, err
}

func (f *frontend) orBuildPlatform(p *ocispec.Platform) *ocispec.Platform {
	if p == nil {
		p = &f.platform
	}
	clone := platforms.Normalize(*p)
	return &clone
}
