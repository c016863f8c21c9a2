package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sinter-build/sinter/builder/redirect"
	"github.com/sinter-build/sinter/layers/hostfile"
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
		Proxy:                 http.ProxyFromEnvironment,
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
	return l.inner.RoundTrip(r)
}

var (
	errPlainRefused = errors.New("plain HTTP is not allowed with this registry")
	errTLSRefused   = errors.New("only plain HTTP is spoken with this registry")
)

// tlsConfig trusts the system's authorities and those configured for the host.
func (c *Client) tlsConfig(e endpoint) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.schemes == anyScheme}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, f := range c.config.CAFiles {
		if err := addAuthority(pool, f); err != nil {
			return nil, err
		}
	}
	for _, dir := range c.config.CertDirs {
		for _, host := range []string{e.host, hostname(e.host)} {
			if err := addCertDir(conf, pool, filepath.Join(dir, host)); err != nil {
				return nil, err
			}
		}
	}
	conf.RootCAs = pool
	return conf, nil
}

// CheckAuthority finds out whether path is what CAFiles wants.
func CheckAuthority(path string) error { return addAuthority(x509.NewCertPool(), path) }

func addAuthority(pool *x509.CertPool, path string) error {
	pem, err := hostfile.Read(path, hostfile.MaxConfig)
	var kind *hostfile.KindError
	if errors.As(err, &kind) {
		return &Error{
			Msg:  fmt.Sprintf("reading the certificates in %s: %v", path, kind),
			Hint: "the certificates are read for each registry: write them to a regular file and name that",
		}
	}
	if err != nil {
		return fmt.Errorf("reading the certificates in %s: %w", path, err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return &Error{Msg: fmt.Sprintf("there is no certificate in %s", path), Hint: "the file must be in PEM format"}
	}
	return nil
}

// addCertDir reads a folder as docker does: *.crt are authorities, NAME.cert
// with NAME.key is a client's certificate.
func addCertDir(conf *tls.Config, pool *x509.CertPool, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the certificates of a registry: %w", err)
	}
	for _, f := range entries {
		path := filepath.Join(dir, f.Name())
		switch filepath.Ext(path) {
		case ".crt":
			err = addAuthority(pool, path)
		case ".cert":
			var pair tls.Certificate
			if pair, err = clientCertificate(path, strings.TrimSuffix(path, ".cert")+".key"); err != nil {
				err = fmt.Errorf("reading the client certificate %s: %w", path, err)
			}
			conf.Certificates = append(conf.Certificates, pair)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func clientCertificate(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := hostfile.Read(certFile, hostfile.MaxConfig)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := hostfile.Read(keyFile, hostfile.MaxConfig)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}
