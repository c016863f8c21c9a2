package registry

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sinter-build/sinter/builder/redirect"
)

// How long a registry may be silent.
const (
	dialTimeout     = 15 * time.Second
	continueTimeout = time.Second // until "100 Continue"; then the body is sent without
)

type transportKey struct {
	host    string
	schemes schemes
	mirror  bool
}

// transport returns what carries the requests to an endpoint: connections that
// do not hang, retries, and the certificates of that host.
func (c *Client) transport(e endpoint) (http.RoundTripper, error) {
	key := transportKey{e.host, e.schemes, e.mirror}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.transports[key]; ok {
		return t, nil
	}
	conf, err := c.tlsConfig(e)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, ControlContext: redirect.Control}
	base := &http.Transport{
		Proxy:                 redirect.Proxy,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   dialTimeout,
		ExpectContinueTimeout: continueTimeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}
	// Realms of tokens are the registry's word, as redirects are.
	guarded := redirect.Transport(base, func(r *http.Request) bool { return r.URL.Host == serverName(e.host) })
	t := transport.NewUserAgent(&retrying{
		inner: &limited{guarded, e}, policy: &c.retry, mirror: e.mirror, warn: c.config.Warn,
	}, c.config.UserAgent)
	c.transports[key] = t
	return t, nil
}

// limited refuses protocols that must not be spoken with the registry. The
// library tries plain HTTP on more hosts than we want. Credentials of a
// registry that speaks TLS are not sent without it to any host.
type limited struct {
	inner http.RoundTripper
	endpoint
}

func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && l.schemes == onlyTLS && r.Header.Get("Authorization") != "" {
		return nil, errPlainRefused
	}
	if r.URL.Host == serverName(l.host) {
		switch {
		case r.URL.Scheme == "http" && l.schemes == onlyTLS:
			return nil, errPlainRefused
		case r.URL.Scheme == "https" && l.schemes == onlyPlain:
			return nil, errTLSRefused
		}
	}
	return l.inner.RoundTrip(l.namingHost(r))
}

var (
	errPlainRefused = errors.New("plain HTTP is not allowed with this registry")
	errTLSRefused   = errors.New("only plain HTTP is spoken with this registry")
)
