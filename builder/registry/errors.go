package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sinter-build/sinter/builder/redirect"
	"github.com/sinter-build/sinter/builder/transfer"
)

// Error is a failure with a hint, where there is one.
type Error struct {
	Msg, Hint string
	Err       error
}

func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// HintText returns the hint, or "".
func (e *Error) HintText() string { return e.Hint }

// ErrNotFound is in the errors of references and blobs that a registry does not
// have. It is fs.ErrNotExist as well.
var ErrNotFound = fmt.Errorf("not in the registry: %w", fs.ErrNotExist)

// explain says what went wrong with a registry, and what to do about it. ref is
// what was asked for; nil when the registry itself is the matter.
func (s *session) explain(err error, ref *Ref) error {
	var known *Error
	var local *localError
	if err == nil || errors.As(err, &known) || errors.As(err, &local) || errors.Is(err, context.Canceled) {
		return err
	}
	// Of TLS that failed and plain HTTP that was answered nevertheless, TLS is
	// the matter.
	var certificate *tls.CertificateVerificationError
	var answer *transport.Error
	if !errors.As(err, &certificate) && errors.As(err, &answer) {
		return s.explainAnswer(err, answer, ref)
	}
	return s.explainNetwork(err)
}

// brokenOff is the error of a body that could not be read to its end.
func (s *session) brokenOff(err error, ref *Ref) error {
	if passing(err) {
		return &corruptError{s.explain(err, ref)}
	}
	return s.explain(err, ref)
}

// explainNetwork is for registries that cannot be talked to.
func (s *session) explainNetwork(err error) error {
	e := &Error{Err: err}
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var syntax *json.SyntaxError
	var refused *redirect.LocalError
	var proxy *redirect.ProxyError
	switch {
	case errors.As(err, &proxy):
		e.Msg = fmt.Sprintf("registry %s: %s", s.host, proxy)
		e.Hint = proxy.HintText()
	case errors.As(err, &authority):
		e.Msg = fmt.Sprintf("registry %s: its certificate is signed by an unknown authority", s.host)
		e.Hint = fmt.Sprintf("put the authority's certificate into /etc/docker/certs.d/%[1]s/ca.crt or give it with --registry-ca FILE; to trust any certificate: --registry-insecure %[1]s", s.host)
	case errors.As(err, &name):
		e.Msg = fmt.Sprintf("registry %s: its certificate is for another host: %v", s.host, name)
		e.Hint = "use the name in the certificate, or --registry-insecure " + s.host
	case errors.As(err, &invalid):
		e.Msg = fmt.Sprintf("registry %s: its certificate is not valid: %v", s.host, invalid)
		e.Hint = "check the clock of this machine; if it is right, the certificate has to be renewed; to trust any certificate: --registry-insecure " + s.host
	case transfer.WantsCertificate(err):
		e.Msg = fmt.Sprintf("registry %s lets in only who has a certificate of its own, and accepts none of ours: %s", s.host, reason(err))
		e.Hint = fmt.Sprintf("put your certificate and its key into /etc/docker/certs.d/%[1]s/client.cert and /etc/docker/certs.d/%[1]s/client.key", s.host)
	case isSilence(err):
		e.Msg = fmt.Sprintf("registry %s does not answer: %s", s.host, reason(err))
		e.Hint = "check the network and the proxy settings (HTTPS_PROXY, NO_PROXY)"
	case errors.Is(err, http.ErrSchemeMismatch), strings.Contains(err.Error(), "server gave HTTP response"):
		e.Msg = fmt.Sprintf("registry %s speaks plain HTTP", s.host)
		e.Hint = "to allow it: --registry-insecure " + s.host
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Msg = fmt.Sprintf("registry %s: connection refused", s.host)
		e.Hint = fmt.Sprintf("is a registry running at %s? is the port right?", s.host)
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Msg = fmt.Sprintf("registry %s: no such host", s.host)
		e.Hint = "check the name, and the network of this machine"
	case errors.As(err, &dns):
		e.Msg = fmt.Sprintf("registry %s: its address could not be looked up: %v", s.host, dns)
		e.Hint = "check the network of this machine"
	case strings.Contains(err.Error(), "realm host"):
		e.Msg = fmt.Sprintf("registry %s: it sends logins to another address: %s", s.host, reason(err))
		e.Hint = "the registry's configuration is wrong, or it is hostile: its realm must be a host name, or an address that the registry has too; do not log in before its operator has explained this"
	case strings.Contains(err.Error(), "realm scheme"):
		e.Msg = fmt.Sprintf("registry %s: the address for its logins cannot be used: %s", s.host, reason(err))
		e.Hint = "correct the realm in the registry's configuration: it must begin with https://, or with http:// where the registry itself is spoken to without TLS"
	case strings.Contains(err.Error(), "bearer"), strings.Contains(err.Error(), "www-authenticate"), errors.As(err, &syntax):
		e.Msg = fmt.Sprintf("registry %s: its answer about logins cannot be understood: %s", s.host, reason(err))
		e.Hint = notRegistryHint
	case errors.As(err, &refused):
		e.Msg = fmt.Sprintf("registry %s: %s", s.host, refused)
	case errors.Is(err, redirect.ErrTooMany):
		e.Msg = fmt.Sprintf("registry %s: %s", s.host, reason(err))
		e.Hint = notRegistryHint
	default:
		e.Msg = fmt.Sprintf("registry %s: %s", s.host, reason(err))
		e.Hint = "try again; if it stays so, look at the log of the registry, or at the network between"
	}
	return e
}

// isDenied reports whether a registry refused the credentials.
func isDenied(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden)
}
