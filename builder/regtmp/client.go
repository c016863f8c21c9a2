package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// userAgent tells registries who asks.
const userAgent = "sinter"

// Client talks to registries. It is safe for concurrent use.
type Client struct {
	config    Config
	transport *hostTransport
	keychain  authn.Keychain

	mu       sync.Mutex
	sessions map[string]*session
}

// session is an authenticated transport for one repository.
type session struct {
	once sync.Once
	rt   http.RoundTripper
	err  error
}

// New returns a client. Nothing is contacted yet.
func New(c Config) *Client {
	if c.Keychain == nil {
		c.Keychain = authn.DefaultKeychain
	}
	return &Client{config: c, transport: newTransport(c), keychain: c.Keychain, sessions: map[string]*session{}}
}

// Manifest is what a reference stands for in a registry.
type Manifest struct {
	Desc ocispec.Descriptor
	Raw  []byte
}

// endpoint is one place to find a repository.
type endpoint struct {
	repo name.Repository
}

// endpoints are the places of a repository (docker.io/library/debian): the
// mirrors of its host in order, then the registry itself.
func (c *Client) endpoints(repo string) ([]endpoint, error) {
	host, path, ok := strings.Cut(repo, "/")
	if !ok {
		return nil, fmt.Errorf("%q is no repository", repo)
	}
	var all []endpoint
	for _, mirror := range append(slices.Clone(c.config.Mirrors[host]), host) {
		plain := strings.HasPrefix(mirror, "http://")
		at := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(mirror, "http://"), "https://"), "/")
		r, err := c.repository(at+"/"+path, plain)
		if err != nil {
			return nil, err
		}
		all = append(all, endpoint{repo: r})
	}
	return all, nil
}

func (c *Client) repository(full string, plain bool) (name.Repository, error) {
	host, _, _ := strings.Cut(full, "/")
	opts := []name.Option{name.StrictValidation}
	if plain || c.config.isInsecure(host) {
		opts = append(opts, name.Insecure)
	}
	r, err := name.NewRepository(full, opts...)
	if err != nil {
		return r, fmt.Errorf("repository %s: %w", full, err)
	}
	return r, nil
}

// Resolve returns the manifest or index that ref (a full name with tag or
// digest) stands for.
func (c *Client) Resolve(ctx context.Context, ref string) (Manifest, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Manifest{}, fmt.Errorf("image name %s: %w", ref, err)
	}
	named = reference.TagNameOnly(named)
	eps, err := c.endpoints(named.Name())
	if err != nil {
		return Manifest{}, err
	}
	var errs []error
	for _, ep := range eps {
		d, err := remote.Get(identifier(ep.repo, named), c.options(ctx)...)
		if err == nil {
			return Manifest{Raw: d.Manifest, Desc: ocispec.Descriptor{
				MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size,
			}}, nil
		}
		if ctx.Err() != nil {
			return Manifest{}, context.Cause(ctx)
		}
		errs = append(errs, describe(err, ep.repo, ref))
	}
	return Manifest{}, worst(errs)
}

// identifier is the tag or digest of named, in repo.
func identifier(repo name.Repository, named reference.Named) name.Reference {
	if d, ok := named.(reference.Digested); ok {
		return repo.Digest(d.Digest().String())
	}
	if t, ok := named.(reference.Tagged); ok {
		return repo.Tag(t.Tag())
	}
	return repo.Tag("latest")
}

// worst is the error to show of several places: the registry's own, which comes
// last, and those of its mirrors with it.
func worst(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	last := errs[len(errs)-1]
	return fmt.Errorf("%w (mirrors: %w)", last, errors.Join(errs[:len(errs)-1]...))
}

func (c *Client) options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(c.keychain), remote.WithTransport(c.transport),
		remote.WithUserAgent(userAgent), remote.WithJobs(6),
		// The transport tries again itself, and listens to Retry-After.
		remote.WithRetryStatusCodes(), remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
}

// session returns a transport that is authenticated to pull from repo.
func (c *Client) session(ctx context.Context, repo name.Repository) (http.RoundTripper, error) {
	c.mu.Lock()
	s := c.sessions[repo.String()]
	if s == nil {
		s = &session{}
		c.sessions[repo.String()] = s
	}
	c.mu.Unlock()
	s.once.Do(func() {
		var auth authn.Authenticator
		if auth, s.err = authn.Resolve(ctx, c.keychain, repo); s.err != nil {
			return
		}
		s.rt, s.err = transport.NewWithContext(context.WithoutCancel(ctx), repo.Registry, auth,
			transport.NewUserAgent(c.transport, userAgent), []string{repo.Scope(transport.PullScope)})
	})
	return s.rt, s.err
}

// Check tries credentials at a registry.
func (c *Client) Check(ctx context.Context, host, user, password string) error {
	var opts []name.Option
	if c.config.isInsecure(host) {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(host, opts...)
	if err != nil {
		return fmt.Errorf("registry %s: %w", host, err)
	}
	rt, err := transport.NewWithContext(ctx, reg, &authn.Basic{Username: user, Password: password},
		transport.NewUserAgent(c.transport, userAgent), nil)
	if err != nil {
		return describe(err, reg.Repo("login"), host)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return describe(err, reg.Repo("login"), host)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return describe(err, reg.Repo("login"), host)
	}
	return nil
}
