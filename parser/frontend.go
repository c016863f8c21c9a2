package parser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// frontend is what BuildKit's Dockerfile frontend sees of the world: it stands
// in for a BuildKit daemon, solves nothing, and asks the Resolver. It serves
// one call of Parse or Call.
type frontend struct {
	opts     map[string]string
	from     string // replaces the first base image
	shown    string // what people call the Dockerfile
	platform ocispec.Platform
	resolver Resolver
	policy   Policy

	warnMu   sync.Mutex
	warn     func(Warning)
	warnings []Warning // those that were told

	// inputs are targets that stand for named contexts.
	inputs map[string]llb.State

	ignoreMu  sync.Mutex
	ignoreErr error // of the first ignore file that is there and cannot be read

	// found is what this frontend and those for its inputs asked for.
	found *findings

	images memo[ImageMeta]
	files  memo[[]byte]
	trees  memo[fs.FS]
}

var _ client.Client = (*frontend)(nil)

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
	return &frontend{
		opts: opts, from: req.From, shown: req.Shown, platform: platforms.Normalize(p), resolver: r,
		policy: req.Policy, warn: warn, found: new(findings),
	}, nil
}

// prepare makes a frontend that can answer the request.
func prepare(ctx context.Context, req Request, r Resolver, warn func(Warning)) (*frontend, error) {
	f, err := newFrontend(req, r, warn)
	if err != nil {
		return nil, err
	}
	return f, f.addTargets(ctx, req)
}

// BuildOpts implements client.Client. All that BuildKit can do is said to be
// supported, so that the frontend takes its newest paths. The options are the
// caller's own: the frontend changes them.
func (f *frontend) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts:      maps.Clone(f.opts),
		SessionID: session,
		Product:   "sinter",
		Workers:   []client.WorkerInfo{{Platforms: []ocispec.Platform{f.platform}}},
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

// Solve implements client.Client: nothing is run, the definition is kept.
func (f *frontend) Solve(_ context.Context, req client.SolveRequest) (*client.Result, error) {
	if req.Frontend != "" {
		return nil, fmt.Errorf("frontend %s: %w", req.Frontend, errors.ErrUnsupported)
	}
	s := &solved{frontend: f, def: req.Definition}
	if err := s.findLocal(); err != nil {
		return nil, err
	}
	res := client.NewResult()
	res.SetRef(s)
	return res, nil
}

// Inputs implements client.Client. There is no frontend before this one, but
// targets that stand for named contexts.
func (f *frontend) Inputs(context.Context) (map[string]llb.State, error) { return f.inputs, nil }

// NewContainer implements client.Client. The Dockerfile frontend starts none
// (but for SBOM scanners, which are not asked for).
func (f *frontend) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, fmt.Errorf("a container for the frontend: %w", errors.ErrUnsupported)
}

// Warn implements client.Client.
func (f *frontend) Warn(_ context.Context, _ digest.Digest, msg string, opts client.WarnOpts) error {
	w := Warning{Short: Redact(msg), URL: opts.URL, Level: opts.Level, Ranges: ranges(opts.Range, 0)}
	for _, d := range opts.Detail {
		w.Detail = append(w.Detail, Redact(string(d)))
	}
	if opts.SourceInfo != nil {
		s := sourceFile(opts.SourceInfo.Filename, opts.SourceInfo.Data)
		w.Source = &s
	}
	f.tell(w)
	return nil
}

// noteIgnore remembers that an ignore file cannot be read. The frontend would go on
// without its rules, and what they hide would be in the image.
func (f *frontend) noteIgnore(file string, err error) {
	if path.Ext(file) != ".dockerignore" || errors.Is(err, fs.ErrNotExist) {
		return
	}
	f.ignoreMu.Lock()
	defer f.ignoreMu.Unlock()
	if f.ignoreErr == nil {
		f.ignoreErr = err
	}
}

// unreadIgnore returns what noteIgnore remembers.
func (f *frontend) unreadIgnore() error {
	f.ignoreMu.Lock()
	defer f.ignoreMu.Unlock()
	return f.ignoreErr
}

// tell hands a warning on, one at a time.
func (f *frontend) tell(w Warning) {
	f.warnMu.Lock()
	defer f.warnMu.Unlock()
	f.warnings = append(f.warnings, w)
	if f.warn != nil {
		f.warn(w)
	}
}
