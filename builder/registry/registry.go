// Package registry pulls from and pushes to image registries: names, mirrors,
// credentials, certificates, retries and resumed transfers.
//
// It moves bytes and does not know what they are for: which image a platform
// wants, and where blobs are kept, is decided by others. What it returns for a
// digest is either verified (manifests) or must be verified by who keeps it
// (blobs, which are streamed).
package registry

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/sinter-build/sinter/builder/redirect"
)

// Client talks to registries. It is safe for concurrent use.
type Client struct {
	config Config
	retry  retryPolicy

	mu         sync.Mutex
	transports map[transportKey]http.RoundTripper
	sessions   map[sessionKey]*session
	dead       map[string]bool        // mirrors that could not be talked to
	fetched    map[digest.Digest]bool // blobs that were asked for
	turns      map[string]*sync.Mutex // of those who change a list of referrers
}

// New returns a client. Nothing is contacted and no file is read before it is
// needed.
func New(c Config) *Client {
	if c.UserAgent == "" {
		c.UserAgent = "sinter"
	}
	if c.Warn == nil {
		c.Warn = func(string) {}
	}
	if c.Keychain == nil {
		c.Keychain = storedCredentials{say: c.Warn, process: c.HelperProcess}
	}
	return &Client{
		config: c, retry: newRetryPolicy(c),
		transports: map[transportKey]http.RoundTripper{},
		sessions:   map[sessionKey]*session{},
		dead:       map[string]bool{},
		fetched:    map[digest.Digest]bool{},
		turns:      map[string]*sync.Mutex{},
	}
}

// WithInsecure returns a client that also speaks plain HTTP, or does not verify
// TLS, with a host.
func (c *Client) WithInsecure(host string) *Client {
	config := c.config
	config.Insecure = append(slices.Clone(config.Insecure), host)
	other := New(config)
	other.retry = c.retry
	return other
}

// endpoint is a place where a repository can be found: its registry, or a
// mirror.
type endpoint struct {
	host    string // as the user writes it
	path    string
	mirror  bool
	schemes schemes
}

// schemes says which protocols may be spoken with a registry.
type schemes int

const (
	onlyTLS schemes = iota
	// anyScheme is TLS, whoever signed the certificate, or plain HTTP.
	anyScheme
	// tlsOrPlain is verified TLS, or plain HTTP: registries on this machine.
	tlsOrPlain
	onlyPlain
)

// endpoints lists where to pull a repository from, in order.
func (c *Client) endpoints(host, path string) ([]endpoint, error) {
	var list []endpoint
	for _, m := range c.config.Mirrors[host] {
		e, err := c.mirror(m, path)
		if err != nil {
			return nil, err
		}
		if !c.isDead(e) {
			list = append(list, e)
		}
	}
	return append(list, c.upstream(host, path)), nil
}

func (c *Client) upstream(host, path string) endpoint {
	return endpoint{host: host, path: path, schemes: c.schemes(host)}
}

func (c *Client) schemes(host string) schemes {
	for _, h := range c.config.Insecure {
		if h == host || h == hostname(host) {
			return anyScheme
		}
	}
	if isLoopback(host) {
		return tlsOrPlain
	}
	return onlyTLS
}

// session is what requests for one repository are sent with.
type session struct {
	endpoint
	client *http.Client
	auth   *authorizer // that carries the client's requests

	err       error
	abandoned bool          // err is the end of a caller's context
	once      chan struct{} // closed when the fields above are set
}

type sessionKey struct {
	endpoint endpoint
	push     bool
	from     string // another repository there, to mount from
}

// open returns the session for an endpoint; the first caller makes it, others
// wait. A failure is not remembered, and that of a caller whose context ended is
// its own.
func (c *Client) open(ctx context.Context, key sessionKey) (*session, error) {
	for {
		if key.endpoint.mirror && c.isDead(key.endpoint) {
			return nil, errGivenUp
		}
		c.mu.Lock()
		s, ok := c.sessions[key]
		if !ok {
			s = &session{endpoint: key.endpoint, once: make(chan struct{})}
			c.sessions[key] = s
		}
		c.mu.Unlock()
		if !ok {
			c.make(ctx, s, key)
			return s, s.err
		}
		select {
		case <-s.once:
			if !s.abandoned {
				return s, s.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// make connects a session that others wait for.
func (c *Client) make(ctx context.Context, s *session, key sessionKey) {
	defer close(s.once)
	if s.err = c.connect(ctx, s, key); s.err != nil {
		s.abandoned = ctx.Err() != nil
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.sessions, key)
	}
}

func (c *Client) connect(ctx context.Context, s *session, key sessionKey) error {
	reg, err := registryName(s.host, s.schemes != onlyTLS)
	if err != nil {
		return err
	}
	base, err := c.transport(s.endpoint)
	if err != nil {
		return err
	}
	scheme, err := schemeOf(ctx, reg, s.endpoint, base)
	if err != nil {
		return s.explain(err, nil)
	}
	scope := transport.PullScope
	if key.push {
		scope = transport.PushScope
	}
	s.auth = &authorizer{
		inner: base, registry: reg, scheme: scheme, scopes: []string{reg.Repo(s.path).Scope(scope)},
		keychain: c.config.Keychain, resource: reg.Repo(s.path), warn: c.config.Warn,
	}
	if key.from != "" {
		s.auth.scopes = append(s.auth.scopes, reg.Repo(key.from).Scope(transport.PullScope))
	}
	s.client = &http.Client{Transport: s.auth, CheckRedirect: redirect.Check}
	return nil
}

// url is an address below the repository.
func (s *session) url(rest string) string {
	return s.auth.scheme + "://" + serverName(s.host) + "/v2/" + s.path + "/" + rest
}
