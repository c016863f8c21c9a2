package registry

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// authorizer carries the requests for one repository, and answers the challenge
// of a request that the registry refuses, as containerd and BuildKit do. So /v2/
// is not asked, credentials are looked for only when they are needed, and only
// the registry itself gets them.
type authorizer struct {
	inner    http.RoundTripper
	registry name.Registry
	scheme   string // of the registry
	scopes   []string
	keychain authn.Keychain
	resource authn.Resource
	warn     func(string)

	mu      sync.Mutex // held while credentials and tokens are fetched
	header  string     // what requests are sent with; "" before a challenge
	expires time.Time  // of the token in header; zero if it does not expire
	bearer  challenge  // that the token answers
	auth    authn.Authenticator
	fault   error // why there may be credentials that are not known
}

// errAuthorized is about a request whose body cannot be sent again: it was
// refused, and would now be sent with another authorization.
var errAuthorized = errors.New("the registry asked for a new token during the transfer")

// loginError is the failure to get a token.
type loginError struct{ error }

func (e *loginError) Unwrap() error { return e.error }

// RoundTrip implements http.RoundTripper.
func (a *authorizer) RoundTrip(r *http.Request) (*http.Response, error) {
	if !a.isOwn(r.URL) {
		return a.elsewhere(r)
	}
	sent, err := a.current(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	resp, err := a.send(r, sent, false)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	next, err := a.answer(r.Context(), challenges(resp.Header), sent)
	if err == nil && next == "" {
		return resp, nil
	}
	discard(resp)
	if err == nil && !isRepeatable(r) {
		err = errAuthorized
	}
	if err != nil {
		return nil, err
	}
	return a.send(r, next, true)
}

// isOwn reports whether u is at the registry.
func (a *authorizer) isOwn(u *url.URL) bool {
	port := map[string]string{"http": ":80", "https": ":443"}[a.scheme]
	return strings.EqualFold(strings.TrimSuffix(u.Host, port), strings.TrimSuffix(a.registry.RegistryStr(), port))
}

// send sends r to the registry, whose scheme counts more than what it says of
// itself: a proxy before it may speak TLS for it.
func (a *authorizer) send(r *http.Request, header string, again bool) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme = a.scheme
	if header != "" {
		out.Header.Set("Authorization", header)
	}
	if again && r.GetBody != nil {
		var err error
		if out.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return a.inner.RoundTrip(out)
}

// current is the header to send requests with. A token that ran out is renewed.
func (a *authorizer) current(ctx context.Context) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.expires.IsZero() && time.Now().After(a.expires) {
		if err := a.fetchToken(ctx); err != nil {
			return "", err
		}
	}
	return a.header, nil
}

// answer returns the header that answers a refusal of requests with the header
// sent; "" if there is none.
func (a *authorizer) answer(ctx context.Context, offered []challenge, sent string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.header != sent {
		return a.header, nil // another request has answered it
	}
	c, ok := choose(offered)
	if len(offered) == 0 {
		c, ok = challenge{scheme: "basic"}, true // it refuses, and does not say what it wants
	}
	if !ok {
		return "", nil
	}
	if err := a.findCredentials(ctx); err != nil {
		return "", err
	}
	if c.scheme == "basic" {
		known, err := authn.Authorization(ctx, a.auth)
		if err != nil {
			return "", &loginError{err}
		}
		a.header, a.expires = basicHeader(known), time.Time{}
	} else {
		a.bearer = c
		if err := a.fetchToken(ctx); err != nil {
			return "", err
		}
	}
	if a.header == sent {
		return "", nil
	}
	return a.header, nil
}

// findCredentials looks for credentials once. Those that cannot be read may not
// be needed: a token for everybody is enough for public images. It fails only when
// ctx ends.
func (a *authorizer) findCredentials(ctx context.Context) error {
	if a.auth != nil {
		return nil
	}
	auth, fault := authn.Resolve(ctx, a.keychain, a.resource)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.auth, a.fault = auth, fault
	if a.auth == nil {
		a.auth = authn.Anonymous
	}
	if a.fault != nil {
		a.warn(a.fault.Error())
	}
	return nil
}

// fetchToken exchanges the credentials for a token that answers a.bearer. Some
// registries look at the first scope alone, so theirs goes first.
func (a *authorizer) fetchToken(ctx context.Context) error {
	known, err := authn.Authorization(ctx, a.auth)
	if err != nil {
		return &loginError{err}
	}
	if known.RegistryToken != "" {
		a.header, a.expires = "Bearer "+known.RegistryToken, time.Time{}
		return nil
	}
	var scopes []string
	for _, s := range append(strings.Fields(a.bearer.parameters["scope"]), a.scopes...) {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	a.header, a.expires, err = exchange(forRealm(ctx), a.registry, a.auth, a.inner, scopes, a.bearer, a.scheme)
	return err
}

// tokenLife is how long a token is valid that does not say it (distribution's
// token specification).
const tokenLife = time.Minute

// exchange gets a token. It is used for 9/10 of its life.
func exchange(ctx context.Context, reg name.Registry, auth authn.Authenticator, inner http.RoundTripper, scopes []string, c challenge, scheme string) (string, time.Time, error) {
	began := time.Now()
	t, err := transport.Exchange(ctx, besideRealm(reg, c.parameters["realm"]), auth, inner, scopes, &transport.Challenge{
		Scheme: c.scheme, Parameters: c.parameters, Insecure: scheme == "http",
	})
	if err != nil {
		return "", time.Time{}, &loginError{err}
	}
	token := t.Token
	if t.AccessToken != "" {
		token = t.AccessToken
	}
	life := tokenLife
	if t.ExpiresIn > 0 {
		life = time.Duration(min(t.ExpiresIn, 1<<30)) * time.Second
	}
	return "Bearer " + token, began.Add(life * 9 / 10), nil
}

// besideRealm returns reg, or the server of a realm that is on the same machine at
// another port. The library takes realms at private addresses only from the registry
// that it is given.
func besideRealm(reg name.Registry, realm string) name.Registry {
	u, err := url.Parse(realm)
	if err != nil {
		return reg
	}
	host := hostname(reg.RegistryStr())
	if !strings.EqualFold(u.Hostname(), host) && !(isLoopback(u.Host) && isLoopback(host)) {
		return reg
	}
	if beside, err := name.NewRegistry(u.Host); err == nil {
		return beside
	}
	return reg
}

// elsewhere sends r to where the registry has redirected it. That place may want
// a token of its own; it gets none of the registry's credentials.
func (a *authorizer) elsewhere(r *http.Request) (*http.Response, error) {
	resp, err := a.inner.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !isRepeatable(r) {
		return resp, err
	}
	c, ok := choose(challenges(resp.Header))
	reg, nameErr := name.NewRegistry(r.URL.Host, name.WeakValidation)
	if !ok || c.scheme != "bearer" || nameErr != nil {
		return resp, nil
	}
	header, _, err := exchange(r.Context(), reg, authn.Anonymous, a.inner, strings.Fields(c.parameters["scope"]), c, r.URL.Scheme)
	if err != nil {
		return resp, nil // the refusal says more
	}
	discard(resp)
	out := r.Clone(r.Context())
	out.Header.Set("Authorization", header)
	if r.GetBody != nil {
		if out.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return a.inner.RoundTrip(out)
}

// credentials says whether credentials were used, and why those that may be there
// were not. a may be nil.
func (a *authorizer) credentials() (used bool, fault error) {
	if a == nil {
		return false, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.auth != nil && a.auth != authn.Anonymous, a.fault
}

// basicHeader is the header that sends credentials as they are; "" without any.
func basicHeader(known *authn.AuthConfig) string {
	switch {
	case known.Auth != "":
		return "Basic " + known.Auth
	case known.Username != "" || known.Password != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(known.Username+":"+known.Password))
	case known.RegistryToken != "":
		return "Bearer " + known.RegistryToken
	}
	return ""
}

// isRepeatable reports whether a request can be sent a second time.
func isRepeatable(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
}

// discard ends an answer so that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// schemeOf finds out whether a registry that need not speak TLS does.
func schemeOf(ctx context.Context, reg name.Registry, e endpoint, t http.RoundTripper) (string, error) {
	switch e.schemes {
	case onlyTLS:
		return "https", nil
	case onlyPlain:
		return "http", nil
	}
	ping, err := transport.Ping(ctx, reg, t)
	var certificate *tls.CertificateVerificationError
	var answer *transport.Error
	switch {
	case err != nil && !errors.As(err, &certificate) && errors.As(err, &answer) && answer.Request != nil &&
		answer.StatusCode != http.StatusBadRequest && // as plain HTTP gets from a server that wants TLS
		answer.StatusCode < http.StatusInternalServerError:
		return answer.Request.URL.Scheme, nil
	case err != nil:
		return "", err
	case ping.Insecure:
		return "http", nil
	}
	return "https", nil
}
