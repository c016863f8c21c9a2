package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sinter-build/sinter/layers/hostfile"
)

// tlsConfig trusts the system's authorities and those configured for the endpoint's
// host. A client's certificate is for the host that it is configured for, and for the
// server of its tokens: a redirect may lead to others.
func (c *Client) tlsConfig(e endpoint) (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.schemes == anyScheme, GetClientCertificate: c.clientCertificate,
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, f := range c.config.CAFiles {
		if err := addAuthority(pool, f); err != nil {
			return nil, err
		}
	}
	// Client certificates are read too, so that one that is wrong is an error here.
	if _, err := c.hostCertificates(e.host, pool); err != nil {
		return nil, err
	}
	conf.RootCAs = pool
	return conf, nil
}

// Keys of contexts.
type (
	// hostKey: the host of a request, as certificates are configured for it.
	hostKey struct{}
	// realmKey: the request is for a token.
	realmKey struct{}
)

// forRealm returns the context of requests for tokens. The server that the registry
// names for that is shown what the registry is: it gets the password too. Docker and
// containerd do so.
func forRealm(ctx context.Context) context.Context { return context.WithValue(ctx, realmKey{}, true) }

// namingHost returns r with its host in the context, where clientCertificate finds it.
func (e endpoint) namingHost(r *http.Request) *http.Request {
	host := r.URL.Host
	isRedirect := r.Response != nil
	if host == serverName(e.host) || r.Context().Value(realmKey{}) != nil && !isRedirect {
		host = e.host
	}
	return r.WithContext(context.WithValue(r.Context(), hostKey{}, host))
}

// clientCertificate implements tls.Config's GetClientCertificate.
func (c *Client) clientCertificate(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	host, _ := info.Context().Value(hostKey{}).(string)
	list, err := c.hostCertificates(host, x509.NewCertPool())
	if err != nil {
		return nil, err
	}
	for i := range list {
		if info.SupportsCertificate(&list[i]) == nil {
			return &list[i], nil
		}
	}
	return &tls.Certificate{}, nil
}

// hostCertificates returns the client's certificates for a host, and adds the
// authorities for it to pool. A host that a server names is only ever the name of a
// folder.
func (c *Client) hostCertificates(host string, pool *x509.CertPool) (list []tls.Certificate, err error) {
	for _, dir := range c.config.CertDirs {
		for _, name := range slices.Compact([]string{host, hostname(host)}) {
			if strings.Trim(name, ".") == "" || strings.Contains(name, "/") {
				continue
			}
			more, err := readCertDir(pool, filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		}
	}
	return list, nil
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
		return &Error{Msg: fmt.Sprintf("no certificate in %s", path), Hint: "the file must be in PEM format"}
	}
	return nil
}

// readCertDir reads a folder as docker does: *.crt are authorities, which are added to
// pool, NAME.cert with NAME.key is a client's certificate.
func readCertDir(pool *x509.CertPool, dir string) (list []tls.Certificate, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the certificates of a registry: %w", err)
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
			list = append(list, pair)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
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
